"""What can be read as a text, and what is told of the rest before a model is loaded."""

from __future__ import annotations

import pytest
from qm.modelfiles.build.chunks import NotText, TextTooShort, check_text, chunked

LONG = "Grüße, 你好, \r\n and so on. " * 50


@pytest.mark.parametrize(
    "text", [LONG.encode(), b"\xef\xbb\xbf" + LONG.encode(), LONG.encode() + "ß".encode()[:1]]
)
def test_text_is_taken_with_marks_and_where_it_was_cut(text: bytes) -> None:
    """Whoever takes the first bytes of a text may cut its last character."""
    check_text(text, "evaluation")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (LONG.encode("latin-1", errors="replace"), 2),
        (LONG.encode("utf-16"), 0),
        (b"a" * 2000 + b"\xf5\x80\x80\x80", 2000),  # over which llama.cpp aborts
    ],
)
def test_what_is_no_text_is_refused_with_the_place(text: bytes, start: int) -> None:
    """llama.cpp would read something else, or end the process."""
    with pytest.raises(NotText, match=f"the calibration text is not UTF-8 from byte {start} on"):
        check_text(text, "calibration")


def test_too_few_bytes_for_the_tokens_needed() -> None:
    """Known before anything is computed."""
    with pytest.raises(TextTooShort, match="has 0 bytes; at least 1024 tokens"):
        check_text(b"", "evaluation")


def test_too_few_tokens_for_two_chunks() -> None:
    """One chunk is no sample."""
    with pytest.raises(TextTooShort, match="has 1023 tokens for this model; at least 1024"):
        chunked([1] * 1023, "evaluation")
    assert chunked([1] * 1600, "evaluation") == [[1] * 512] * 3
