"""Pictures and sounds that a message names by their paths."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from qm.store.errors import InvalidRequest

from .session import Message, Session, user_message

MAX_BYTES = 100_000_000
# A path, absolute or relative with a slash, spaces escaped or the whole in quotes.
_PATH = re.compile(
    r"""(?P<quote>['"])(?P<quoted>[^'"]+?\.(?:jpe?g|png|webp|wav))(?P=quote)"""
    r"""|(?P<bare>(?:~|\.{1,2})?/(?:[^\s\\'"]|\\.)*?\.(?:jpe?g|png|webp|wav))(?=\s|$)""",
    re.IGNORECASE,
)


class UnreadableImage(InvalidRequest):
    """A file that the message names can't be sent."""

    code = "unreadable_image"


def user_message_for(session: Session, text: str) -> Message:
    """A user's message, with pictures if the model takes any. Raises UnreadableImage."""
    return message_with_images(text) if session.sees_or_hears else user_message(text)


def message_with_images(text: str) -> Message:
    """A user's message; files that exist leave the text and go along as bytes.

    Raises UnreadableImage.
    """
    images: list[str] = []

    def take(match: re.Match[str]) -> str:
        path = Path(match["quoted"] or re.sub(r"\\(.)", r"\1", match["bare"])).expanduser()
        if not path.is_file():
            return match[0]
        images.append(_encoded(path))
        return ""

    content = _PATH.sub(take, text)
    if not images:
        return user_message(text)
    return user_message(content.strip()) | {"images": images}


def _encoded(path: Path) -> str:
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    except OSError as error:
        raise UnreadableImage(f"can't read {path}: {error.strerror}") from error
    if not data:
        raise UnreadableImage(f"{path} is empty or larger than {MAX_BYTES // 1_000_000} MB")
    return base64.b64encode(data).decode()
