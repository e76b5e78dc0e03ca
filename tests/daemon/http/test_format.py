"""`format` on Ollama's routes, with the real model behind them."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.slow
OPTIONS = {"temperature": 0, "num_predict": 60}
COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer"}},
    "required": ["colour", "count"],
}


def ask(daemon: Any, **more: Any) -> tuple[int, Any]:
    prompt = "Choose a colour and a number."
    path, asked = "/api/generate", {"prompt": prompt}
    if more.pop("chat", False):
        path, asked = "/api/chat", {"messages": [{"role": "user", "content": prompt}]}  # type: ignore[dict-item]
    body = {"model": "smollm2", "stream": False, "options": OPTIONS, **asked, **more}
    status, data = daemon.call("POST", path, body)
    return status, json.loads(data)


def test_a_schema_binds_chat_and_generate(live_daemon: Any) -> None:
    status, answer = ask(live_daemon, chat=True, format=COLOUR)
    assert status == 200
    assert json.loads(answer["message"]["content"])["colour"] in ("red", "green")
    status, answer = ask(live_daemon, format=COLOUR)
    assert isinstance(json.loads(answer["response"])["count"], int)
    assert answer["done_reason"] == "stop"


def test_json_means_an_object(live_daemon: Any) -> None:
    _, answer = ask(live_daemon, format="json", options=OPTIONS | {"num_predict": 12})
    assert answer["response"].startswith("{")


def test_what_cannot_be_enforced_is_a_400_with_the_reason(live_daemon: Any) -> None:
    """Never an unconstrained answer; streaming or not."""
    for stream in (True, False):
        wrong = {"type": "string", "pattern": "[a-z"}
        status, answer = ask(live_daemon, format=wrong, stream=stream)
        assert status == 400
        assert "unclosed character class" in answer["error"]


def test_a_grammar_is_an_option(live_daemon: Any) -> None:
    """It can't be combined with `format`."""
    wanted = OPTIONS | {"grammar": 'root ::= "yes" | "no"'}
    status, answer = ask(live_daemon, options=wanted)
    assert (status, answer["response"] in ("yes", "no")) == (200, True)
    assert ask(live_daemon, options=wanted, format="json")[0] == 400
    assert ask(live_daemon, options=wanted | {"grammar": "root ::= ("})[0] == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "string", "pattern": "(" * 60_000},
        {"type": "string", "pattern": "^+x"},
        {"type": "string", "pattern": "a{99999}"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"anyOf": [{"anyOf": [{"enum": ["x" * 200_000]}]}]},
        {"type": "array", "prefixItems": [{"type": "string"}], "contains": {"type": "integer"}},
    ],
)
def test_hostile_schemas_harm_nobody(live_daemon: Any, wrong: object) -> None:
    """400, and the runner that refused goes on."""
    (before,) = live_daemon.json("GET", "/api/ps")["models"]
    status, answer = ask(live_daemon, format=wrong)
    assert (status, "can't be enforced" in answer["error"]) == (400, True)
    (after,) = live_daemon.json("GET", "/api/ps")["models"]
    assert after["qm"]["pid"] == before["qm"]["pid"]
