"""What the daemon and its render worker say to each other; framed like runner messages."""

from __future__ import annotations

import struct
from typing import Any

import msgspec


class RenderJob(msgspec.Struct, frozen=True):
    """Render `template` with those of `context`'s names that templates may see."""

    id: int
    template: str
    kind: str  # of `modelfiles.template.Syntax`
    context: dict[str, Any]  # Any: whatever a chat request holds, as JSON types
    limit_s: float
    limit_characters: int


class Rendered(msgspec.Struct, frozen=True):
    """`text`, or `error` when it is not empty."""

    id: int
    text: str = ""
    error: str = ""


def frame(message: RenderJob | Rendered) -> bytes:
    """One whole frame, ready to be written."""
    body = msgspec.msgpack.encode(message)
    return struct.pack(">I", len(body)) + body
