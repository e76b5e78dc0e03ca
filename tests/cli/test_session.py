"""What a session sends to the daemon."""

from __future__ import annotations

import pytest
from qm.cli.session import Session, parse_keep_alive, parse_think, user_message

HELLO = user_message("hello")


def test_a_plain_session_leaves_everything_to_the_model() -> None:
    """No key is sent that the user did not ask for."""
    assert Session("m").said(HELLO).chat_request() == {"model": "m", "messages": [HELLO]}


def test_everything_asked_for_is_sent() -> None:
    """The system prompt comes first; think: false is not the same as nothing."""
    session = Session(
        "m", system="Be brief.", options={"seed": 1}, format="json", think=False, keep_alive=0,
        truncate=False,
    )  # fmt: skip
    assert session.said(HELLO).chat_request() == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, HELLO],
        "options": {"seed": 1},
        "format": "json",
        "think": False,
        "keep_alive": 0,
        "truncate": False,
    }


def test_loading_asks_nothing() -> None:
    """But with the options that decide how the model is loaded."""
    session = Session("m", options={"num_ctx": 512}, keep_alive="1h").said(HELLO)
    assert session.load_request() == {
        "model": "m",
        "messages": [],
        "options": {"num_ctx": 512},
        "keep_alive": "1h",
    }


def test_a_saved_session_goes_on_where_it_was() -> None:
    """The model's own messages are saved before ours, as the new list replaces the old."""
    session = Session("m", inherited=({"role": "user", "content": "before"},)).said(HELLO)
    assert session.save_request("n") == {
        "model": "n",
        "from": "m",
        "messages": [{"role": "user", "content": "before"}, HELLO],
    }
    assert Session("m", system="S", options={"top_k": 3}).save_request("n") == {
        "model": "n",
        "from": "m",
        "system": "S",
        "parameters": {"top_k": 3},
    }


def test_clearing_forgets_only_what_was_said() -> None:
    """Settings stay."""
    session = Session("m", system="S").said(HELLO).cleared()
    assert (session.messages, session.system) == ((), "S")


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("-1", -1), ("5m", "5m")])
def test_keep_alive_counts_seconds_or_is_a_duration(text: str, value: object) -> None:
    """A bare number would be refused as a string."""
    assert parse_keep_alive(text) == value


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("High", "high")])
def test_think_is_a_switch_or_a_level(text: str, value: object) -> None:
    """The daemon checks the level."""
    assert parse_think(text) == value
