"""JSON that models and clients wrote inside of texts: read into values that can be sent on."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

_MOST_LEVELS = 100


class NotJson(ValueError):
    """The text is no JSON, or the value has no JSON form."""


def parsed(text: str) -> Any:
    """What `text` says; line breaks in its strings need no escapes. Raises NotJson."""
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from error
    return sendable(value)


def written(value: object) -> str:
    """`value`, which is sendable, as JSON without spaces."""
    return msgspec.json.encode(value).decode()


def sendable(value: object, levels: int = _MOST_LEVELS) -> Any:
    """`value` as JSON can say it in UTF-8. Raises NotJson, also for what is nested too deeply.

    Lone halves of UTF-16 pairs become U+FFFD, what is no finite number null.
    """
    if levels == 0:
        raise NotJson("nested too deeply")
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case str():
            return whole(value)
        case list() | tuple():
            return [sendable(item, levels - 1) for item in value]
        case dict():
            return {_key(key): sendable(item, levels - 1) for key, item in value.items()}
        case _:
            raise NotJson(f"{type(value).__name__} has no JSON form")


def whole(text: str) -> str:
    """`text` as UTF-8 can say it: U+FFFD stands in for lone halves of UTF-16 pairs."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _key(key: object) -> str:
    text: str = sendable(key if isinstance(key, str) else str(key), 1)
    return text
