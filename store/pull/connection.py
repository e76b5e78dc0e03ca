"""HTTP for transfers: ranged, kept alive, to checked and pinned addresses, tokens at home only."""

from __future__ import annotations

import http.client
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self, TypeAlias
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from .addresses import ForbiddenAddress, Origin, Policy

CONNECT_LIMIT_S = 15.0
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PRIVATE_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_DRAIN_BYTES = 64 << 10

BROKEN: tuple[type[Exception], ...] = (OSError, http.client.HTTPException)
"""What goes wrong on the way, and may go well another time."""


@dataclass(frozen=True, slots=True)
class XetFile:
    """The file's name in xet storage, and where the hub gives a pass for that."""

    hash: str
    pass_url: str


@dataclass(frozen=True, slots=True)
class Located:
    """Where the bytes are now: links may expire. The headers are for that very origin."""

    url: str
    headers: Mapping[str, str]
    xet: XetFile | None = None  # the same bytes, in chunks


class Answer:
    """A response whose body has not been read yet."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.readinto: Callable[[memoryview], int] = response.readinto

    @property
    def length(self) -> int | None:
        """How many body bytes are still to come, where that is known."""
        return self._response.length

    def drain(self) -> bool:
        """Reads a short rest so that the connection can be used again; False if it is long."""
        self._response.read(_DRAIN_BYTES)
        return self._response.isclosed()


class Connection:
    """At most one open connection at a time, kept for the next request to the same origin."""

    def __init__(self, policy: Policy, *, stall_s: float) -> None:
        self._policy = policy
        self._stall_s = stall_s
        self._open: tuple[Origin, http.client.HTTPConnection] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def get(self, located: Located, headers: Mapping[str, str]) -> Answer:
        """The answer to a GET, redirects followed. Raises BROKEN and ForbiddenAddress."""
        url, own = located.url, dict(located.headers)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._request(url, {**own, **headers})
            where = answer.headers.get("location")
            if answer.status not in _REDIRECTS or where is None:
                return answer
            if not answer.drain():
                self.close()
            url, before = urljoin(url, where), Origin.of(url)
            if Origin.of(url) != before:
                own = {k: v for k, v in own.items() if k.lower() not in _PRIVATE_HEADERS}
        raise ForbiddenAddress(f"{located.url[:100]!r} redirects without end")

    def send(self, method: str, located: Located, body: bytes) -> Answer:
        """The answer to one request, redirects not followed. Raises BROKEN, ForbiddenAddress."""
        return self._request(located.url, located.headers, method, body)

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def abort(self) -> None:
        """From another thread: wakes the one that reads."""
        opened = self._open
        if opened is not None and opened[1].sock is not None:
            try:
                opened[1].sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already, which is what is wanted

    def _request(
        self, url: str, headers: Mapping[str, str], method: str = "GET", body: bytes | None = None
    ) -> Answer:
        origin = self._policy.check(url)
        kept = self._open is not None and self._open[0] == origin
        connection = self._connection(origin, url)
        try:
            return self._send(connection, url, headers, method, body)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.close()
            if not kept:
                raise
        connection = self._connection(origin, url)  # the other one had been idle too long
        return self._send(connection, url, headers, method, body)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        url: str,
        headers: Mapping[str, str],
        method: str,
        body: bytes | None,
    ) -> Answer:
        parts = urlsplit(url)
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        if isinstance(connection, _Plain) and connection.by_proxy:
            target = f"{parts.scheme}://{parts.netloc}{target}"
            headers = {**headers, **connection.proxy_headers}
        sent = {"Accept-Encoding": "identity", "User-Agent": "qm", **headers}
        connection.request(method, target, body or None, sent)
        return Answer(connection.getresponse())

    def _connection(self, origin: Origin, url: str) -> http.client.HTTPConnection:
        if self._open is not None and self._open[0] == origin:
            return self._open[1]
        self.close()
        connection = self._connect(origin, url)
        self._open = origin, connection
        return connection

    def _connect(self, origin: Origin, url: str) -> http.client.HTTPConnection:
        proxy = _proxy(origin)
        if proxy is None:
            addresses = self._policy.addresses(url)
            made = _made(origin, origin.host, origin.port, _pinned(addresses))
        else:
            self._policy.check_name(url)
            made = _through(proxy, origin)
        made.timeout = CONNECT_LIMIT_S
        made.connect()
        made.sock.settimeout(self._stall_s)
        return made


class _Plain(http.client.HTTPConnection):
    """Without encryption; to a proxy, or straight."""

    by_proxy = False
    proxy_headers: Mapping[str, str] = {}


_Create: TypeAlias = Callable[..., socket.socket]


def _made(origin: Origin, host: str, port: int, create: _Create) -> http.client.HTTPConnection:
    made: http.client.HTTPConnection = (
        http.client.HTTPSConnection(host, port, context=_tls())
        if origin.scheme == "https"
        else _Plain(host, port)
    )
    made._create_connection = create  # type: ignore[attr-defined]  # the seam for other sockets
    return made


def _through(proxy: str, origin: Origin) -> http.client.HTTPConnection:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if not parts.hostname:
        raise OSError(f"the proxy {proxy!r} can't be read")
    made = _made(origin, parts.hostname, parts.port or 8080, socket.create_connection)
    headers = {}
    if parts.username:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(secret.encode()).decode()}"
    if isinstance(made, _Plain):
        made.by_proxy, made.proxy_headers = True, headers
    else:
        made.set_tunnel(origin.host, origin.port, headers)
    return made


def _pinned(addresses: list[str]) -> _Create:
    """Connects to these addresses whatever the name means by then."""

    def create(where: tuple[str, int], timeout: float, *_source: object) -> socket.socket:
        failure = OSError("the host has no address")
        for address in addresses:
            try:
                return socket.create_connection((address, where[1]), timeout)
            except OSError as error:
                failure = error
        raise failure

    return create


def _proxy(origin: Origin) -> str | None:
    """As the environment and the system's settings say; never for this machine itself."""
    if proxy_bypass(origin.host):
        return None
    proxies = getproxies()
    return proxies.get(origin.scheme) or proxies.get("all")


@cache
def _tls() -> ssl.SSLContext:
    """The system's certificates (SSL_CERT_FILE and SSL_CERT_DIR count), else certifi's."""
    context = ssl.create_default_context()
    if not context.get_ca_certs() and not context.cert_store_stats()["x509_ca"]:
        import certifi  # noqa: PLC0415  huggingface_hub needs it too

        context.load_verify_locations(certifi.where())
    return context
