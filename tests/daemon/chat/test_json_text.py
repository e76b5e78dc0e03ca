"""JSON that a model wrote can always be sent on, or is told to be none."""

from __future__ import annotations

from typing import Any

import pytest
from qm.daemon.chat.json_text import NotJson, parsed, sendable, written


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "\\ud83d"}', {"a": "\ufffd"}),  # half of a pair is no character
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"\\udfff": 1}', {"\ufffd": 1}),
        ('{"a": NaN, "b": -Infinity, "c": 1e999}', {"a": None, "b": None, "c": None}),
        ('{"a": 1000000000000000000000000}', {"a": 10**24}),
        ('[1, 2.5, true, null, ["x"]]', [1, 2.5, True, None, ["x"]]),
    ],
)
def test_what_is_read_can_be_written(text: str, value: Any) -> None:
    """As UTF-8, and reading that again gives the same."""
    assert parsed(text) == value
    assert parsed(written(parsed(text))) == value


@pytest.mark.parametrize(
    "text", ["", "{", "{'a': 1}", "[" * 5000, "1" * 5000, "[" * 200 + "]" * 200]
)
def test_what_is_no_json_is_told(text: str) -> None:
    with pytest.raises(NotJson):
        parsed(text)


def test_values_of_python() -> None:
    """Models that write calls as Python use its tuples; what JSON can't say is told."""
    assert sendable({1: (2, "x")}) == {"1": [2, "x"]}
    for value in (b"x", {1, 2}, 1j, ...):
        with pytest.raises(NotJson):
            sendable({"a": value})


def test_no_spaces() -> None:
    """Streamed and whole arguments look alike."""
    assert written({"a": [1, 2], "b": "é"}) == '{"a":[1,2],"b":"é"}'
