"""Requests kept in files for debugging, without what must not be in a file.

A ring: with QM_CAPTURE=20 the latest 20 are there, each a JSON document that only its user can
read. Keys, tokens and the data of images and sounds are left out; what was written to the model is
not, so that the files are as private as the conversations.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from ..chat import json_text
from .encoding import is_plain

_HIDDEN = "<hidden>"
_MOST_BYTES = 1024 * 1024
_SECRET_NAMES = re.compile(
    r"authorization|cookie|token$|secret|password|passwd|api.?key|^key$|credential", re.IGNORECASE
)
_SECRETS = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-|qm_|hf_|ghp_|gho_|github_pat_|xox[bp]-|AKIA)[\w-]{12,}"
)
_BASE64 = re.compile(r"(?:(?<=;base64,)[A-Za-z0-9+/_-]+|[A-Za-z0-9+/_-]{256,})={0,2}")

BODY = web.RequestKey("captured_body", bytes)


@dataclass(slots=True)
class Captures:
    """Counts the files of one daemon."""

    n_kept: int = 0

    def keep(self, document: Mapping[str, object], directory: Path, most: int) -> Path:
        """Writes one, in the place of the oldest of at most `most`."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"{self.n_kept % most:04}.json"
        self.n_kept += 1
        path.unlink(missing_ok=True)  # whoever reads the old one keeps it
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(document)))
        return path


def captured(
    request: web.Request, request_id: str, status: int, took_s: float
) -> dict[str, object]:
    """What a file tells of a request."""
    return {
        "id": request_id,
        "method": request.method,
        "path": redacted(request.path),
        "query": redacted(dict(request.query)),
        "headers": redacted(dict(request.headers)),
        "status": status,
        "ms": round(took_s * 1000, 1),
        "body": body_of(request.get(BODY, b""), request.headers.get("Content-Encoding", "")),
    }


def body_of(body: bytes, encoding: str = "") -> object:
    """The redacted document that a body is, or its text; of what is large only the size."""
    if len(body) > _MOST_BYTES and not _BASE64.search(body[:_MOST_BYTES].decode("latin-1")):
        return f"<{len(body)} bytes>"
    if not is_plain(encoding):
        return f"<{len(body)} bytes of {encoding[:40]}>"
    try:
        document = redacted(msgspec.json.decode(body)) if body else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return redacted(body.decode("utf-8", "replace"))
    size = len(msgspec.json.encode(document))
    return document if size <= _MOST_BYTES else f"<{len(body)} bytes>"


def redacted(value: Any) -> Any:
    """`value` without secrets and without the data of images. Raises RecursionError."""
    match value:
        case {"data": str(data), "type": kind, **rest} if kind != "text":
            return {**redacted({"type": kind, **rest}), "data": _length(data)}
        case {"input_audio": {"data": str(data), **sound}, **rest}:
            return {**redacted(rest), "input_audio": {**redacted(sound), "data": _length(data)}}
        case {"images": [*images], **rest}:
            return {**redacted(rest), "images": [_length(str(image)) for image in images]}
        case dict():
            return {
                redacted(name): _HIDDEN
                if _SECRET_NAMES.search(name) and isinstance(item, str)
                else redacted(item)
                for name, item in value.items()
            }
        case list():
            return [redacted(item) for item in value]
        case str():
            return _BASE64.sub(_size, _SECRETS.sub(_HIDDEN, json_text.whole(value)))
        case _:
            return value


def _size(match: re.Match[str]) -> str:
    return _length(match[0])


def _length(data: str) -> str:
    return f"<{len(data)} characters of data>"
