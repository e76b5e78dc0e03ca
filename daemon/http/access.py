"""Who may talk to the daemon over TCP: pure rules on the Host and Origin headers and keys.

A page in a browser can make requests to loopback; what it can't do is lie about its Origin, or
keep its own name out of Host when it rebinds that name to 127.0.0.1.
"""

from __future__ import annotations

import fnmatch
import hmac
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

LOCAL_SUFFIXES = (".localhost", ".local", ".internal")  # never delegated in the public DNS
LOCAL_ORIGIN_HOSTS = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1"})  # noqa: S104  compared
# Editors and desktop shells whose pages ship with the application.
APPLICATION_ORIGINS = ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")


@dataclass(frozen=True, slots=True)
class AccessRules:
    """What settings allow besides loopback: host names, origins (a last * matches any rest)."""

    hosts: frozenset[str]
    origins: tuple[str, ...] = ()

    def allows_host(self, header: str) -> bool:
        """Whether a Host header names this machine; an absent one comes from no browser."""
        host = host_of(header)
        if host in ("", "localhost") or host in self.hosts or host.endswith(LOCAL_SUFFIXES):
            return True
        address = _address(host)
        return address is not None and (
            address.is_loopback or address.is_private or address.is_unspecified
        )

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of `origin` may call us."""
        try:
            parts = urlsplit(origin)
            local = parts.scheme in ("http", "https") and parts.hostname in LOCAL_ORIGIN_HOSTS
        except ValueError:
            return False
        patterns = (*APPLICATION_ORIGINS, *self.origins)
        return local or any(fnmatch.fnmatchcase(origin, _literal(one)) for one in patterns)


@lru_cache(maxsize=8)
def rules_for(hosts: tuple[str, ...], origins: tuple[str, ...], bound: str | None) -> AccessRules:
    """The rules of a daemon bound to `bound`: its own names are allowed without being set."""
    own = (socket.gethostname(), bound or "")
    names = frozenset(host_of(name) for name in (*own, *hosts) if name)
    return AccessRules(names, origins)


def host_of(header: str) -> str:
    """The host of "host", "host:port" or "[v6]:port", lower case, without a root dot."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    if header.count(":") > 1:
        return header
    return header.partition(":")[0].rstrip(".")


def is_same_origin(origin: str, host_header: str) -> bool:
    """Whether the page came from this very server."""
    return origin.partition("://")[2].lower() == host_header.strip().lower() != ""


def key_in(headers: Mapping[str, str]) -> str:
    """The key that a request carries, in either header; empty when in none."""
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    return bearer or headers.get("x-api-key", "")


def is_authorised(headers: Mapping[str, str], keys: Iterable[str]) -> bool:
    """Whether a request carries one of `keys`; every key is compared in constant time."""
    given = key_in(headers).encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(given, key.encode()) for key in keys]
    return any(matches)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _literal(pattern: str) -> str:
    """Only a * is special in our patterns: an origin with a bracketed IPv6 host has others."""
    return pattern.replace("[", "[[]").replace("?", "[?]")
