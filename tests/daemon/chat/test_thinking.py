"""Reasoning and answer come apart, wherever the stream is cut."""

from __future__ import annotations

import pytest
from qm.daemon.chat.thinking import ThinkingSplitter
from qm.modelfiles.reasoning import tags_of


def split(pieces: list[str], *, opened: bool = False) -> tuple[str, str]:
    splitter = ThinkingSplitter(opened=opened)
    parts = [splitter.feed(piece) for piece in pieces]
    parts.append(splitter.finish())
    return "".join(p.thinking for p in parts), "".join(p.content for p in parts)


CASES = [
    ("<think>\nLet me see.\n</think>\n\nBlue.", False, "Let me see.", "Blue."),
    ("\n <think>a < b </thin no</think>x <think> y", False, "a < b </thin no", "x <think> y"),
    ("no tags at all ", False, "", "no tags at all "),
    ("  <thin air", False, "", "  <thin air"),
    ("reasoning\n</think>\nanswer", True, "reasoning", "answer"),
    ("never closed", True, "never closed", ""),
    ("<think></think>answer", False, "", "answer"),
    ("", False, "", ""),
    ("<think>only", False, "only", ""),
    ("<think>two\n\nparts</think>\n", False, "two\n\nparts", ""),
]


@pytest.mark.parametrize(("text", "opened", "thinking", "content"), CASES)
def test_every_split_point_gives_the_same(
    text: str, opened: bool, thinking: str, content: str
) -> None:
    """Cut in two anywhere, or fed letter by letter, nothing changes and no tag shows."""
    for at in range(len(text) + 1):
        assert split([text[:at], text[at:]], opened=opened) == (thinking, content)
    assert split(list(text), opened=opened) == (thinking, content)


def test_content_is_not_held_back() -> None:
    """Once the answer has begun every piece goes out as it comes."""
    splitter = ThinkingSplitter(opened=False)
    assert splitter.feed("The").content == "The"
    assert splitter.feed(" <").content == " <"


GRANITE = [
    ("<think>Hm.</think>\n<response>Blue.</response>", "Hm.", "Blue."),
    ("<think>Hm.</think><response>Blue </resp", "Hm.", "Blue </resp"),
    ("<think>Hm.</think> <resp", "Hm.", "<resp"),
    ("<think>Hm.</think> Blue </response>", "Hm.", "Blue </response>"),
    ("Blue <response>", "", "Blue <response>"),
]


@pytest.mark.parametrize(("text", "thinking", "content"), GRANITE)
def test_an_answer_may_have_tags_of_its_own(text: str, thinking: str, content: str) -> None:
    """As Granite's has, where its template says so; nothing else is taken for them."""
    tags = tags_of("{% if thinking %}<think></think> and <response></response>{% endif %}")
    for at in range(len(text) + 1):
        splitter = ThinkingSplitter(opened=False, tags=tags)
        parts = [splitter.feed(text[:at]), splitter.feed(text[at:]), splitter.finish()]
        assert "".join(part.thinking for part in parts) == thinking
        assert "".join(part.content for part in parts) == content
