"""Pictures keep their places in a conversation."""

from __future__ import annotations

from qm.daemon.chat.pictures import marked, marker, pictures
from qm.daemon.chat.request import Message

TURNS = (
    Message("user", "What is this?", images=(b"one", b"two")),
    Message("assistant", "Two things."),
    Message("user", "", images=(b"three",)),
)


def test_each_picture_has_a_mark_before_the_text_of_its_turn() -> None:
    mark = marker(pictures(TURNS))
    assert [turn.content for turn in marked(TURNS, mark)] == [
        f"{mark}{mark}What is this?",
        "Two things.",
        mark,
    ]
    assert pictures(TURNS) == (b"one", b"two", b"three")


def test_marks_follow_from_the_pictures() -> None:
    """A text from elsewhere can't hold one by chance or malice; no pictures, no marks."""
    assert marker(pictures(TURNS)) == marker(pictures(TURNS)) != marker(pictures(TURNS[:1]))
    assert marker(pictures(TURNS[1:2])) == ""
