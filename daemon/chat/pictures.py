"""Where in a rendered prompt the pictures of a conversation belong. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from .request import Message


def marker(images: Sequence[bytes]) -> str:
    """A text that stands for a picture; nobody who doesn't know the pictures can write it."""
    return f"<picture-{hashlib.sha256(b''.join(images)).hexdigest()[:24]}>" if images else ""


def pictures(turns: Sequence[Message]) -> tuple[bytes, ...]:
    """All of them, in the order in which their markers are rendered."""
    return tuple(image for turn in turns for image in turn.images)


def marked(turns: Sequence[Message], mark: str) -> tuple[Message, ...]:
    """The turns with a marker for each picture before their text, as models are trained."""
    return tuple(
        replace(turn, content=mark * len(turn.images) + turn.content) if turn.images else turn
        for turn in turns
    )
