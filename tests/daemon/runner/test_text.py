"""The text of an answer: whole characters, and nothing of a stop string, however it is cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from qm.daemon.runner.text import AnswerText


def show(data: bytes, stops: tuple[str, ...], cuts: list[int]) -> tuple[str, str, list[str]]:
    """What is shown of `data` when it arrives cut at `cuts`."""
    text = AnswerText(stops)
    shown = []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        shown.append(text.feed(data[start:end]))
        if text.stopped_by:
            return "".join(shown), text.stopped_by, shown
    shown.append(text.finish())
    return "".join(shown), text.stopped_by, shown


def test_every_split_point_gives_the_same_text() -> None:
    """A stop string and multi-byte characters, cut anywhere."""
    data = "Grüße 😀 <|end|> rest".encode()
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            shown, stop, parts = show(data, ("<|end|>",), [first, second])
            assert (shown, stop) == ("Grüße 😀 ", "<|end|>")
            assert all("\ufffd" not in part and "<" not in part for part in parts)


def test_a_partial_stop_string_that_never_completes_is_shown_at_the_end() -> None:
    """What was held back is not lost."""
    assert show(b"answer <|en", ("<|end|>",), [3, 9])[:2] == ("answer <|en", "")


def test_what_only_looked_like_a_stop_string_is_shown() -> None:
    """Held text goes out as soon as it can't become a stop string."""
    text = AnswerText(("abc",))
    assert [text.feed(b"xa"), text.feed(b"b"), text.feed(b"ab")] == ["x", "", "ab"]
    assert text.feed(b"c") == ""
    assert text.stopped_by == "abc"


def test_a_character_cut_by_the_end_reads_as_a_replacement() -> None:
    """Invalid UTF-8 never leaves."""
    assert show("ä".encode()[:1], (), [])[0] == "\ufffd"
    assert show(b"a\xff\xfeb", ("stop",), [2])[0] == "a\ufffd\ufffdb"


def test_a_replacement_in_a_stop_string_is_found_at_every_split() -> None:
    """Bytes that are no text read as U+FFFD, those of a character that the end cuts too."""
    for data, stop, before in (
        ("Zeit \ufffd.", "t \ufffd", "Zei"),
        (b"a\xff\xfeb", "\ufffdb", "a\ufffd"),
        (b"ab\xf0\x9f\x98", "b\ufffd", "a"),
        ("😀😀".encode()[:-1], "\ufffd", "😀"),
    ):
        answer = data.encode() if isinstance(data, str) else data
        for first in range(len(answer) + 1):
            for second in range(first, len(answer) + 1):
                assert show(answer, (stop,), [first, second])[:2] == (before, stop)


def test_empty_stop_strings_stop_nothing() -> None:
    """`stop: [""]` is no stop string."""
    assert show(b"abc", ("",), [1])[:2] == ("abc", "")


@given(
    st.text("ab<", max_size=12),
    st.lists(st.text("ab<", min_size=1, max_size=3), max_size=3),
    st.lists(st.integers(0, 12), max_size=6),
)
def test_cuts_never_change_the_answer(answer: str, stops: list[str], cuts: list[int]) -> None:
    """Token borders are an accident; the answer is the same for all of them."""
    data = answer.encode()
    inside = [cut for cut in cuts if cut <= len(data)]
    every = list(range(len(data) + 1))
    whole = show(data, tuple(stops), every)[:2]
    assert show(data, tuple(stops), inside)[:2] == whole
