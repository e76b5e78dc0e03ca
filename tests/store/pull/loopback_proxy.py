"""A forward proxy on loopback that notes whom it was asked for: absolute addresses and CONNECT."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_BLOCK = 1 << 16
_LIMIT_S = 30.0


@dataclass
class Proxy:
    """`asked` are the targets, `passwords` what came in Proxy-Authorization."""

    url: str
    asked: list[str] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)

    def note(self, head: bytes) -> tuple[str, str]:
        """The method and the target of a request."""
        first, *headers = head.decode("latin-1").splitlines()
        method, target, _ = first.split(" ")
        self.asked.append(f"{method} {target}")
        for text in headers:
            name, _, value = text.partition(": ")
            if name.lower() == "proxy-authorization":
                self.passwords.append(value)
        return method, target


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, *_about: object) -> None:
        """Clients that hang up are none of ours."""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        method, target = self.server.proxy.note(head)
        parts = urlsplit(target if "://" in target else f"//{target}")
        assert parts.hostname is not None
        with socket.create_connection((parts.hostname, parts.port or 80), _LIMIT_S) as other:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = target.split(parts.netloc, 1)[1] or "/"
                other.sendall(_as_origin_sees(f"{method} {path} HTTP/1.1", head))
            _shuttle(self.connection, other)


def _as_origin_sees(request: str, head: bytes) -> bytes:
    headers = head.split(b"\r\n")[1:]
    kept = [one for one in headers if not one.lower().startswith(b"connection:")]
    return b"\r\n".join([request.encode(), b"Connection: close", *kept])


def _shuttle(one: socket.socket, other: socket.socket) -> None:
    """Until either ends, or both are silent."""
    pairs = {one: other, other: one}
    while ready := select.select(list(pairs), [], [], _LIMIT_S)[0]:
        for each in ready:
            data = each.recv(_BLOCK)
            if not data:
                return
            pairs[each].sendall(data)


@contextmanager
def loopback_proxy() -> Iterator[Proxy]:
    proxy = Proxy("")
    with _Server(proxy) as server:
        proxy.url = f"http://user:secret@127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield proxy
        server.shutdown()
        thread.join()
