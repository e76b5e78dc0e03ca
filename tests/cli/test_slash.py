"""What the REPL's commands make of a session."""

from __future__ import annotations

import pytest
from qm.cli import slash
from qm.cli.session import Session
from qm.cli.slash import SlashError, change, help_text, is_open, unquoted
from qm.modelfiles.parameters import OptionError

SESSION = Session("smollm2")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ('"""', True),
        ('"""one\ntwo', True),
        ('"""one"""', False),
        ('  """one\n"""', False),
        ('say """', False),
        ('/set system """', True),
        ('/set system """x"""', False),
        ("", False),
    ],
)
def test_a_message_is_open_until_its_closing_marks(typed: str, expected: bool) -> None:
    """Only a message, or a /set value, that begins with the marks waits for more."""
    assert is_open(typed) is expected


def test_marks_are_not_part_of_the_message() -> None:
    """Nor are the line breaks next to them."""
    assert unquoted('"""\none\n\ntwo\n"""') == "one\n\ntwo"
    assert unquoted(" plain ") == "plain"


def test_parameters_are_checked_and_typed() -> None:
    """Numbers are numbers, stop is a list, and the session that was there is untouched."""
    session, words = change(SESSION, "parameter temperature 0.2")
    session, _ = change(session, "parameter stop <a> <b>")
    assert session.options == {"temperature": 0.2, "stop": ["<a>", "<b>"]}
    assert words == "Set parameter temperature to 0.2."
    assert SESSION.options == {}


@pytest.mark.parametrize("rest", ["parameter temperature warm", "parameter top_p 2"])
def test_a_wrong_value_names_the_parameter(rest: str) -> None:
    """The message is the one that a Modelfile gets."""
    with pytest.raises(OptionError, match=rest.split()[1]):
        change(SESSION, rest)


@pytest.mark.parametrize(
    ("rest", "words"),
    [("", "must be one of"), ("colour red", "must be one of"), ("parameter heat 1", "heat"),
     ("parameter top_k", "needs a value"), ("format {", "JSON schema"), ("format [1]", "object")],
)  # fmt: skip
def test_what_cannot_be_set_is_explained(rest: str, words: str) -> None:
    """Every mistake names what is wrong."""
    with pytest.raises(SlashError, match=words):
        change(SESSION, rest)


def test_parameter_without_a_name_lists_them() -> None:
    """With their meaning."""
    session, words = change(SESSION, "parameter")
    assert session is SESSION
    assert "temperature" in words


@pytest.mark.parametrize(
    ("rest", "field", "value"),
    [
        ('system """\nBe brief.\n"""', "system", "Be brief."),
        ("system", "system", ""),
        ("format json", "format", "json"),
        ('format {"type": "object"}', "format", {"type": "object"}),
        ("noformat", "format", None),
        ("think", "think", True),
        ("think high", "think", "high"),
        ("nothink", "think", False),
    ],
)
def test_set_changes_what_is_asked(rest: str, field: str, value: object) -> None:
    """Each setting changes its own field."""
    assert getattr(change(SESSION, rest)[0], field) == value


@pytest.mark.parametrize(
    ("on", "off", "field"),
    [("verbose", "quiet", "verbose"), ("wordwrap", "nowordwrap", "wordwrap"),
     ("history", "nohistory", "history")],
)  # fmt: skip
def test_views_switch_on_and_off(on: str, off: str, field: str) -> None:
    """Pairs of words."""
    switched_on, _ = change(SESSION, on)
    switched_off, _ = change(switched_on, off)
    assert getattr(switched_on.view, field) is True
    assert getattr(switched_off.view, field) is False


def test_every_listed_setting_can_be_set() -> None:
    """Help and deed name the same words."""
    assert set(slash._CHANGES) == set(slash.SETTINGS)


def test_help_covers_every_topic() -> None:
    """Unknown topics say which there are."""
    assert "/bye" in help_text("")
    assert "/set nowordwrap" in help_text("set")
    assert "/show modelfile" in help_text("show")
    assert "Ctrl-D" in help_text("shortcuts")
    with pytest.raises(SlashError, match="shortcuts"):
        help_text("cooking")


def test_commands_have_other_names() -> None:
    """As people know them."""
    assert [slash.resolve(word) for word in ("/?", "/exit", "/bye")] == ["/help", "/bye", "/bye"]
    with pytest.raises(SlashError, match="/nope"):
        slash.resolve("/nope")
