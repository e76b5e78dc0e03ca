"""What several dialects read alike: options, images, tool calls and how much to think."""

from __future__ import annotations

import base64
import binascii
import json
import secrets

import msgspec
from qm.modelfiles.parameters import PARAMETERS, check_all
from qm.store.errors import InvalidRequest

from ..chat import json_text
from ..chat.request import JsonObject
from ..runner.wire import Options
from .fields import Fields, WrongType, field_of
from .ollama_request import InvalidField

_EFFORTS: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_MOST_TOKENS = 2**31 - 1
_URL_SCHEMES = ("http://", "https://", "file://", "ftp://")


class InvalidContent(InvalidRequest):
    """What a model is to read can't be read."""

    code = "invalid_content"


def named_options(fields: Fields, limit: int | None, **renamed: object) -> Options:
    """Options under their own names beside the dialect's fields, or in an object `options`.

    `limit` is the dialect's bound on new tokens; `renamed` holds what it calls otherwise.
    """
    given = dict(fields.document("options"))
    given |= {name: fields.raw(name) for name in PARAMETERS if fields.raw(name) is not None}
    given |= {name: value for name, value in renamed.items() if value is not None}
    if limit is not None:
        given["num_predict"] = limit
    known, _ = check_all(given)
    return msgspec.convert(known, Options)


def token_limit(fields: Fields, *names: str) -> int | None:
    """The bound on new tokens by the first of `names` that is set; -1 means none."""
    for name in names:
        limit = fields.optional_integer(name)
        if limit is not None and limit < -1:
            raise InvalidField(f"{name} must not be negative, not {limit}", name)
        if limit is not None and limit > _MOST_TOKENS:
            raise InvalidField(f"{name} must be at most {_MOST_TOKENS}, not {limit}", name)
        if limit is not None:
            return limit
    return None


def effort(value: object, path: str) -> bool | str | None:
    """What a word like "high" means for `Request.think`; None when it is absent."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise WrongType(path, "string", value)
    if value not in _EFFORTS:
        shown = json.dumps(value[:100])
        field = field_of(path)
        raise InvalidField(f"{field} must be one of {', '.join(_EFFORTS)}, not {shown}", field)
    return _EFFORTS[value]


def image_data(url: str) -> bytes:
    """The bytes of an image given as data URL or plain base64. Raises InvalidContent."""
    if url.lower().startswith(_URL_SCHEMES):
        raise InvalidContent(
            "image URLs are not currently supported, please use base64 encoded data instead"
        )
    data = url.partition(",")[2] if url.startswith("data:") else url
    return _decoded(data, "image")


def audio_data(data: str) -> bytes:
    """The bytes of a sound given as base64; they tell their format. Raises InvalidContent."""
    return _decoded(data, "audio")


def _decoded(data: str, what: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidContent(f"invalid {what} input") from error


def arguments(text: object) -> JsonObject:
    """A call's arguments, from their JSON text. Raises InvalidContent."""
    if text in (None, ""):
        return {}
    try:
        value = json_text.parsed(text) if isinstance(text, str) else json_text.sendable(text)
    except json_text.NotJson as error:
        raise InvalidContent("invalid tool call arguments") from error
    if not isinstance(value, dict):
        raise InvalidContent("invalid tool call arguments")
    return value


def new_id(prefix: str) -> str:
    """An id that no other answer has."""
    return f"{prefix}{secrets.token_hex(12)}"
