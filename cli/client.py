"""What a command asks of the daemon: JSON in, JSON or a stream of JSON lines out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeAlias

from qm.store.errors import QmError

from .transport import DaemonGone, Response, request

JsonObject: TypeAlias = dict[str, Any]  # Any: what a daemon, perhaps of another version, wrote

HEALTH_LIMIT_S = 5.0


class Refused(QmError):
    """The daemon's own words about why it did not do as asked."""

    code = "refused"

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


@dataclass(frozen=True, slots=True)
class Stream:
    """JSON objects, one a line. Leaving the `with` early hangs up, and the daemon stops."""

    _response: Response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._response.close()

    def __iter__(self) -> Iterator[JsonObject]:
        """Raises Refused for an error that comes in the middle, DaemonGone for a broken stream."""
        for line in self._response.lines():
            item = _parse(line)
            if "error" in item:
                raise Refused(str(item["error"]), self._response.status)
            yield item


@dataclass(frozen=True, slots=True)
class Client:
    """A daemon that listens at `socket`. Every call is a connection of its own.

    `headers` go with every POST.
    """

    socket: Path
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, target: str, limit_s: float | None = None) -> JsonObject:
        """The JSON answer to a GET. Raises Refused and what `transport.request` raises."""
        return _document(request(self.socket, "GET", target, limit_s=limit_s))

    def post(self, target: str, body: Mapping[str, object]) -> JsonObject:
        """The JSON answer to a POST; an empty answer is an empty object."""
        return _document(self._post(target, body))

    def stream(self, target: str, body: Mapping[str, object]) -> Stream:
        """The answer's objects as they arrive. Raises Refused if there will be none."""
        response = self._post(target, body)
        if response.status >= 400:
            raise _refusal(response)
        return Stream(response)

    def has_blob(self, digest: str) -> bool:
        """Whether the store has the file."""
        response = request(self.socket, "HEAD", f"/api/blobs/{digest}")
        response.close()
        return response.status < 400

    def upload(self, digest: str, data: bytes) -> None:
        """Puts a file's bytes into the store. Raises Refused."""
        response = request(self.socket, "POST", f"/api/blobs/{digest}", data)
        if response.status >= 400:
            raise _refusal(response)
        response.close()

    def _post(self, target: str, body: Mapping[str, object]) -> Response:
        return request(self.socket, "POST", target, _encode(body), headers=self.headers)

    def is_healthy(self) -> bool:
        """Whether the daemon takes requests. Raises DaemonNotRunning if nobody listens."""
        try:
            response = request(self.socket, "GET", "/health", limit_s=HEALTH_LIMIT_S)
            response.read()
        except DaemonGone:
            return False
        return response.status == 200


def _encode(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _document(response: Response) -> JsonObject:
    if response.status >= 400:
        raise _refusal(response)
    body = response.read()
    return _parse(body) if body.strip() else {}


def _refusal(response: Response) -> Refused:
    """The error of an answer that may also be plain text, as 404 and 405 are."""
    text = response.read().decode("utf-8", "replace").strip()
    try:
        message = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        message = text or "no reason given"
    hint = response.headers.get("x-qm-hint", "")
    return Refused(f"{message}; {hint}" if hint else str(message), response.status)


def _parse(text: bytes) -> JsonObject:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise DaemonGone from error
    return document if isinstance(document, dict) else {"value": document}
