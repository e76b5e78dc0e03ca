"""Where a download may connect to: the configured host, and public addresses that it names."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from ..errors import InvalidRequest

Resolve: TypeAlias = Callable[[str, int], list[str]]
"""The addresses of a host; raises OSError."""

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SHOWN_CHARACTERS = 120


class ForbiddenAddress(InvalidRequest):
    """A server sent us somewhere that it has no business to know about."""

    code = "forbidden_address"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a token belongs to: exactly this scheme, host and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Raises ForbiddenAddress for what is no http or https address."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise _forbidden(url, "it can't be read") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise _forbidden(url, "it is neither http nor https")
        if parts.username or parts.password:
            raise _forbidden(url, "it has a user name in it")
        return cls(parts.scheme, parts.hostname, port)

    @property
    def place(self) -> str:
        """Host, and port where it is not the usual one: for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def resolve(host: str, port: int) -> list[str]:
    """What the system says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Policy:
    """`home` is what was asked for; it alone may be anywhere, if the user configured it."""

    home: Origin
    resolve: Resolve = resolve
    trusts_home: bool = True

    def addresses(self, url: str) -> list[str]:
        """The addresses to connect to, and no others. Raises ForbiddenAddress, OSError."""
        origin = self.check(url)
        found = self.resolve(origin.host, origin.port)
        if self.trusts_home and (origin.host, origin.port) == (self.home.host, self.home.port):
            return found
        at_home = {kind(address) for address in self._home_addresses(found)}
        allowed = [each for each in found if kind(each) == "public" or kind(each) in at_home]
        if not allowed:
            raise _forbidden(url, f"{origin.host} is no public address")
        return allowed

    def check(self, url: str) -> Origin:
        """What can be known without asking for the host's addresses."""
        origin = Origin.of(url)
        if origin.scheme == "http" and self.home.scheme != "http":
            raise _forbidden(url, "it is not https")
        return origin

    def check_name(self, url: str) -> Origin:
        """For use behind a proxy, which resolves names itself."""
        origin = self.check(url)
        if is_address(origin.host):
            self.addresses(url)
        return origin

    def _home_addresses(self, found: list[str]) -> list[str]:
        """Asked only when it matters."""
        if not self.trusts_home or all(kind(address) == "public" for address in found):
            return []
        return self.resolve(self.home.host, self.home.port)


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def kind(address: str) -> str:
    """`public`, or which kind of special address it is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        else:
            ip = ip.ipv4_mapped or ip.sixtofour or ip
    for name in ("is_loopback", "is_link_local", "is_multicast", "is_unspecified"):
        if getattr(ip, name):
            return name.removeprefix("is_")
    return "public" if ip.is_global else "private"


def _forbidden(url: str, why: str) -> ForbiddenAddress:
    return ForbiddenAddress(f"refusing to fetch from {url[:_SHOWN_CHARACTERS]!r}: {why}")
