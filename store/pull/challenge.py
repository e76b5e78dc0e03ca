"""What a registry's 401 asks for, and who it may be told to. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from ..errors import InvalidRequest
from .addresses import Origin

_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"([^"]*)"|([^\s",]+))')
_MAX_CHARACTERS = 4096
MAX_AUTH_FILE_BYTES = 1 << 20


class ForeignRealm(InvalidRequest):
    """A registry wants a token to be fetched from another host; none is."""

    code = "foreign_realm"


class AuthUnreadable(InvalidRequest):
    """The file with the credentials for registries is not what it should be."""

    code = "auth_unreadable"


@dataclass(frozen=True, slots=True)
class Challenge:
    """`scheme` is bearer or basic; the rest belongs to bearer."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""

    def token_url(self, registry: Origin, scope: str) -> str:
        """Where to fetch a token. Raises ForeignRealm unless that is the registry itself."""
        if Origin.of(self.realm) != registry:
            raise ForeignRealm(
                f"the registry {registry.host} asks for a token of {self.realm[:200]!r}; "
                "qm fetches tokens from the registry's own address only"
            )
        asked = {"service": self.service, "scope": self.scope or scope}
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"{self.realm}{'&' if '?' in self.realm else '?'}{query}"


def parse_challenge(header: str) -> Challenge | None:
    """Of `WWW-Authenticate`; None for a scheme that we don't speak."""
    scheme, _, rest = header.strip()[:_MAX_CHARACTERS].partition(" ")
    if scheme.lower() == "basic":
        return Challenge("basic")
    if scheme.lower() != "bearer":
        return None
    told = {match[1].lower(): match[2] or match[3] or "" for match in _PARAMETER.finditer(rest)}
    return Challenge(
        "bearer", told.get("realm", ""), told.get("service", ""), told.get("scope", "")
    )


def credentials(path: Path | None, host: str) -> str | None:
    """The Basic credentials for exactly this `host[:port]`, from a file as `docker login` writes.

    Raises AuthUnreadable.
    """
    if path is None or not path.exists():
        return None
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(MAX_AUTH_FILE_BYTES))
    except (OSError, ValueError) as error:
        raise AuthUnreadable(f"can't read the registry credentials in {path}: {error}") from error
    entries = document.get("auths") if isinstance(document, dict) else None
    entry = (
        entries.get(host) or entries.get(f"https://{host}") if isinstance(entries, dict) else None
    )
    return _basic(entry, path) if isinstance(entry, dict) else None


def _basic(entry: Mapping[str, object], path: Path) -> str | None:
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        return auth
    user, password = entry.get("username"), entry.get("password")
    if isinstance(user, str) and isinstance(password, str):
        return base64.b64encode(f"{user}:{password}".encode()).decode()
    if entry:
        raise AuthUnreadable(f"{path} has an entry for the registry without user and password")
    return None  # `docker login` leaves it empty when a credential helper has them
