"""Pictures named in a message go along with it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from qm.cli.images import UnreadableImage, message_with_images


def test_a_path_becomes_the_picture(tmp_path: Path) -> None:
    """Quoted, with escaped spaces, or bare; the text loses the path."""
    picture = tmp_path / "a cat.PNG"
    picture.write_bytes(b"png")
    escaped = str(picture).replace(" ", "\\ ")
    for written in (f"'{picture}'", f'"{picture}"', escaped):
        message = message_with_images(f"What is in {written}")
        assert message == {
            "role": "user",
            "content": "What is in",
            "images": [base64.b64encode(b"png").decode()],
        }


def test_what_is_no_file_stays_text(tmp_path: Path) -> None:
    """A message about paths is a message."""
    text = f"Does {tmp_path}/none.png exist? And a.png?"
    assert message_with_images(text) == {"role": "user", "content": text}


def test_an_empty_picture_is_refused(tmp_path: Path) -> None:
    """With its name."""
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(UnreadableImage, match=r"empty\.png"):
        message_with_images(f"look: {empty}")
