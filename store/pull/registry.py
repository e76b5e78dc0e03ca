"""Talking to one OCI registry: requests with the token that it wants, to its own address only."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ..errors import NotFound, QmError
from ..image import MANIFEST_TYPE, MAX_MANIFEST_BYTES, OCI_MANIFEST_TYPE, ManifestInvalid
from ..name import Name
from .addresses import Origin, Policy
from .answers import MOST_ANSWER_S, AnswerRefused
from .challenge import Challenge, credentials, parse_challenge
from .connection import BROKEN, Answer, Connection, Located

_PIECE_BYTES = 16 << 10
_MAX_TOKEN_BYTES = 64 << 10
_MAX_ERROR_BYTES = 16 << 10
_SHOWN_CHARACTERS = 300
_UNAUTHORIZED, _NOT_FOUND = 401, 404
STALL_S = 30.0


class RegistryUnreachable(QmError):
    """The registry could not be asked."""

    code = "registry_unreachable"


class RegistryRefused(QmError):
    """The registry said no; `told` is the status that it answered."""

    code = "registry_refused"

    def __init__(self, message: str, told: int) -> None:
        super().__init__(message)
        self.told = told


class NotOnRegistry(NotFound):
    """The registry has no such model, or won't show it to us."""

    code = "not_on_registry"


class LoginNeeded(QmError):
    """The registry wants to know who asks."""

    status = 401
    code = "login_needed"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registry. `trusted`: the user configured it, so it may have a private address."""

    url: str
    trusted: bool = False
    auth_file: Path | None = None

    @property
    def origin(self) -> Origin:
        return Origin.of(self.url)

    @property
    def policy(self) -> Policy:
        return Policy(self.origin, trusts_home=self.trusted)


@dataclass(slots=True)
class Session:
    """Requests about one repository of a registry, over one connection."""

    endpoint: Endpoint
    repository: str
    scope: str  # pull, or pull,push
    _connection: Connection = field(init=False)
    _authorization: str | None = None
    _last: Answer | None = None  # what is left of it must be read before the next one

    def __post_init__(self) -> None:
        self._connection = Connection(self.endpoint.policy, stall_s=STALL_S)

    @classmethod
    def about(cls, endpoint: Endpoint, name: Name, scope: str) -> Self:
        return cls(endpoint, f"{name.namespace}/{name.model}", scope)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()

    def url(self, path: str) -> str:
        """Of `manifests/…` or `blobs/…` in the repository."""
        return f"{self.endpoint.url}/v2/{self.repository}/{path}"

    def ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """The answer, whatever it is but 401. Raises RegistryUnreachable, LoginNeeded."""
        answer = self._send(method, url, headers or {}, body)
        if answer.status != _UNAUTHORIZED:
            return answer
        challenge = parse_challenge(answer.headers.get("www-authenticate", ""))
        self._authorization = self._authorize(challenge)
        answer = self._send(method, url, headers or {}, body)
        if answer.status == _UNAUTHORIZED:
            raise self._login_needed()
        return answer

    def locate(self, digest: str) -> Located:
        """Where a blob is, with a token that is good now."""
        url = self.url(f"blobs/{digest}")
        answer = self.ask("HEAD", url)
        if answer.status >= 400:
            raise self.refused(answer, f"blob {digest}")
        return Located(url, self._own_headers())

    def source(self) -> dict[str, str]:
        """What a repair needs to fetch a blob again."""
        endpoint = self.endpoint
        return {
            "registry": endpoint.url,
            "repository": self.repository,
            "trusted": "yes" if endpoint.trusted else "no",
            "auth_file": str(endpoint.auth_file or ""),
        }

    def manifest(self, reference: str) -> bytes:
        """The manifest's bytes. Raises NotOnRegistry, RegistryRefused, RegistryUnreachable."""
        accept = f"{MANIFEST_TYPE}, {OCI_MANIFEST_TYPE}"
        answer = self.ask("GET", self.url(f"manifests/{reference}"), {"Accept": accept})
        if answer.status != 200:
            raise self.refused(answer, f"{self.repository}:{reference}")
        if (packed := answer.headers.get("content-encoding", "identity")) != "identity":
            self.drop()
            raise AnswerRefused(
                f"{self.endpoint.origin.host} packs its answers ({packed[:40]}), "
                "which was not asked for"
            )
        if (answer.length or 0) > MAX_MANIFEST_BYTES:
            self.drop()
            raise ManifestInvalid(f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes")
        return self.read(answer, MAX_MANIFEST_BYTES + 1)

    def read(self, answer: Answer, limit_bytes: int) -> bytes:
        """The body's beginning, at most so long. Raises RegistryUnreachable, AnswerRefused."""
        buffer, until_s = memoryview(bytearray(limit_bytes)), time.monotonic() + MOST_ANSWER_S
        filled = 0
        try:
            while filled < limit_bytes and (
                n_bytes := answer.readinto(buffer[filled : filled + _PIECE_BYTES])
            ):
                filled += n_bytes
                if time.monotonic() > until_s:
                    host = self.endpoint.origin.place
                    raise AnswerRefused(f"{host} took over {MOST_ANSWER_S:.0f} s for one answer")
        except BROKEN as error:
            raise self._unreachable(error) from error
        return bytes(buffer[:filled])

    def refused(self, answer: Answer, what: str) -> QmError:
        """The error for an answer that is none of those that were hoped for."""
        told = _told(self.read(answer, _MAX_ERROR_BYTES)) or f"status {answer.status}"
        host = self.endpoint.origin.place
        if answer.status == _NOT_FOUND:
            return NotOnRegistry(f"{what} is not on {host}: {told}")
        return RegistryRefused(f"{host} refuses {what}: {told}", answer.status)

    def drop(self) -> None:
        """Forgets the connection after something went wrong on it."""
        self._connection.close()
        self._last = None

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        located = Located(url, {**self._own_headers(), **headers})
        try:
            if self._last is not None and not self._last.drain():
                self.drop()
            self._last = self._connection.send(method, located, body)
        except BROKEN as error:
            self.drop()
            raise self._unreachable(error) from error
        return self._last

    def _own_headers(self) -> dict[str, str]:
        return {"Authorization": self._authorization} if self._authorization else {}

    def _authorize(self, challenge: Challenge | None) -> str:
        """What to send from now on. Raises LoginNeeded, ForeignRealm."""
        origin = self.endpoint.origin
        host = self.endpoint.url.partition("://")[2]
        known = credentials(self.endpoint.auth_file, host)
        if challenge is None or (challenge.scheme == "basic" and known is None):
            raise self._login_needed()
        basic = f"Basic {known}" if known else None
        if challenge.scheme == "basic":
            return str(basic)
        url = challenge.token_url(origin, f"repository:{self.repository}:{self.scope}")
        self._authorization = basic
        answer = self._send("GET", url, {}, b"")
        if answer.status != 200:
            raise self._login_needed()
        return f"Bearer {_token(self.read(answer, _MAX_TOKEN_BYTES), origin.host)}"

    def _login_needed(self) -> LoginNeeded:
        host = self.endpoint.url.partition("://")[2]
        return LoginNeeded(
            f"{host} wants a login for {self.repository}; put its credentials into "
            f"{self.endpoint.auth_file}, as `docker login {host}` does"
        )

    def _unreachable(self, error: Exception) -> RegistryUnreachable:
        told = str(error) or type(error).__name__
        return RegistryUnreachable(f"can't reach the registry {self.endpoint.url}: {told}")


def _token(body: bytes, host: str) -> str:
    try:
        document = json.loads(body)
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isprintable():
        raise RegistryRefused(f"{host} sent no token", 200)
    return token


def _told(body: bytes) -> str:
    """The registry's own words, if it sent any."""
    try:
        error = json.loads(body)["errors"][0]
        words = f"{error.get('message') or error.get('code')}"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return words[:_SHOWN_CHARACTERS]
