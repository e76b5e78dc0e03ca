"""Words are kept whole on a screen of any width, and nothing steers the terminal."""

from __future__ import annotations

import re
import unicodedata

import pytest
from qm.cli.wrap import WordWrap, printable

TEXT = "The quick brown fox jumps over the lazy dog.\n\nExtraordinarily-long-words do break."


def screen(output: str) -> str:
    """What a terminal shows after `output`, whose only control sequences are ours."""
    lines = [""]
    for part in re.split(r"(\x1b\[\d+D\x1b\[K|\n)", output):
        if part.startswith("\x1b"):
            back = int(re.findall(r"\d+", part)[0])
            while back > 0:
                back -= 2 if unicodedata.east_asian_width(lines[-1][-1]) in "WF" else 1
                lines[-1] = lines[-1][:-1]
        elif part == "\n":
            lines.append("")
        else:
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


@pytest.mark.parametrize("step", range(1, len(TEXT)))
def test_lines_break_between_words_however_the_text_comes(step: int) -> None:
    """The screen is the same for every way to cut the stream."""
    wrap = WordWrap(20)
    pieces = (TEXT[start : start + step] for start in range(0, len(TEXT), step))
    assert screen("".join(map(wrap.feed, pieces))) == (
        "The quick brown fox\njumps over the lazy\ndog.\n\nExtraordinarily-lon\ng-words do break."
    )


def test_wide_characters_count_twice() -> None:
    """Ideographs take two columns and may break anywhere."""
    assert screen(WordWrap(11).feed("漢字漢字漢字漢字")) == "漢字漢字漢\n字漢字"


def test_code_is_left_alone() -> None:
    """Between fences no line break is put in."""
    code = "```python\nprint('this line is longer than the screen')\n```\n"
    assert WordWrap(20).feed(code) == code


def test_text_after_code_wraps_again() -> None:
    """The closing fence ends the exception."""
    output = WordWrap(12).feed("```\nx\n```\nhello beautiful")
    assert screen(output) == "```\nx\n```\nhello\nbeautiful"


def test_control_characters_are_dropped() -> None:
    """Escape sequences, bells and C1 controls of a model never reach the terminal."""
    assert printable("a\x1b]0;owned\x07b\x9bc\r\n\td\x7f") == "a]0;ownedbc\n\td"
