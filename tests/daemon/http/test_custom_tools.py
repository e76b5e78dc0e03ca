"""OpenAI's custom tools: functions of one text to the model, texts to the client, however cut."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
from qm.daemon.chat.request import (
    Delta,
    Event,
    Finished,
    FinishReason,
    ToolCall,
    ToolCallPart,
    ToolChoice,
)
from qm.daemon.http.custom_tools import InputReader, input_of
from qm.daemon.http.fields import Fields
from qm.daemon.http.openai_answer import CHAT, stream, whole
from qm.daemon.http.openai_request import chat_wanted
from qm.daemon.http.responses_answer import stream as response_stream
from qm.daemon.http.responses_request import Asked, responses_request
from qm.store.errors import InvalidRequest

TEXT = 'a "b"\n\\ é \U0001f600 \ufffd'
WRITTEN = (
    json.dumps({"input": TEXT}),
    '{ "input" : "a \\"b\\"\\n\\u005c \\u00E9 \\ud83d\\ude00 \\ud83d" }',
)


def chat(**fields: object) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return chat_wanted(Fields(body, "ChatCompletionRequest"))


def asked(**fields: object) -> Asked:
    return responses_request(Fields({"model": "m", "input": "hi", **fields}, "ResponsesRequest"))


@pytest.mark.parametrize("written", WRITTEN)
def test_an_input_is_told_as_it_is_written(written: str) -> None:
    """At every split point: escapes, halves of pairs and quotes are never told in part."""
    for at in range(len(written) + 1):
        for then in (at, min(at + 1, len(written))):
            reader = InputReader()
            pieces = [reader.feed(p) for p in (written[:at], written[at:then], written[then:])]
            assert "".join(pieces) == TEXT, (at, pieces)
            assert reader.rest({"input": TEXT}) == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"patch": "x"}, "x"),
        ({"a": "x", "input": "y"}, "y"),
        ({"a": "x", "b": "y"}, '{"a":"x","b":"y"}'),
        ({"input": 3}, '{"input":3}'),
        ({}, ""),
    ],
)
def test_an_input_under_another_name_is_not_lost(arguments: dict[str, Any], text: str) -> None:
    """It comes when the call is complete."""
    reader = InputReader()
    assert reader.feed(json.dumps(arguments)) == ""
    assert reader.rest(arguments) == input_of(arguments) == text


def test_tools_of_a_chat() -> None:
    """Beside functions, chosen and allowed by name, and gone on from."""
    tools = [
        {"type": "custom", "custom": {"name": "sh", "description": "d"}},
        {"type": "function", "function": {"name": "f"}},
        {"type": "web_search"},
    ]
    named = {"type": "custom", "custom": {"name": "sh"}}
    wanted = chat(tools=tools, tool_choice=named)
    assert wanted.custom == {"sh"}
    (request,) = wanted.requests
    assert [tool["function"]["name"] for tool in request.tools] == ["sh", "f"]
    assert request.tools[0]["function"]["parameters"]["required"] == ["input"]
    assert request.tool_choice == ToolChoice("required", "sh")
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
    (request,) = chat(tools=tools, tool_choice=allowed).requests
    assert len(request.tools) == 1
    call = {"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
    turns = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c"}]
    before, result = chat(tools=tools, messages=turns).requests[0].messages
    assert before.tool_calls == (ToolCall("sh", {"input": "ls"}, "c"),)
    assert result.tool_name == "sh"


def test_tools_of_a_response() -> None:
    """Also in a namespace; what OpenAI runs is left out, and repeated all the same."""
    custom = {"type": "custom", "name": "sh"}
    tools = [custom, {"type": "namespace", "name": "n", "tools": [custom]}, {"type": "mcp"}]
    items = [
        {"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "x"},
    ]
    wanted = asked(tools=tools, input=items)
    assert wanted.custom == {"sh", "n__sh"}
    assert [each["function"]["name"] for each in wanted.request.tools] == ["sh", "n__sh"]
    before, result = wanted.turns
    assert before.tool_calls == (ToolCall("sh", {"input": "ls"}, "c"),)
    assert (result.content, result.tool_name) == ("x", "sh")
    assert wanted.echo["tools"][0]["format"] == {"type": "text"}
    assert wanted.echo["tools"][2] == {"type": "mcp"}


@pytest.mark.parametrize("nested", [True, False])
def test_a_regex_holds_for_calls_that_are_required(nested: bool) -> None:
    """Chat keeps the grammar one level lower than responses do."""
    regex = {"syntax": "regex", "definition": "a|b"}
    form = {"type": "grammar", **({"grammar": regex} if nested else regex)}
    tool = {"name": "sh", "format": form}
    tools = [{"type": "custom", "custom": tool} if nested else {"type": "custom", **tool}]
    take: Any = chat if nested else asked
    wanted = take(tools=tools, tool_choice="required")
    request = wanted.requests[0] if nested else wanted.request
    schema = request.tools[0]["function"]["parameters"]["properties"]["input"]
    assert schema["pattern"] == "^(?:a|b)$"
    take(tools=tools, tool_choice="none")
    with pytest.raises(InvalidRequest, match=r"format.type: a grammar is enforced only where"):
        take(tools=tools)
    regex["syntax"] = form["syntax"] = "lark"
    with pytest.raises(InvalidRequest, match=r"syntax: a call can be held to a regex") as refused:
        take(tools=tools, tool_choice="required")
    path = "custom.format.grammar.syntax" if nested else "format.syntax"
    assert refused.value.field == f"tools[0].{path}"


async def events(*all_events: Event) -> AsyncGenerator[Event]:
    for event in all_events:
        yield event


def answer(at: int) -> tuple[Event, ...]:
    """A call to a function, then one to a custom tool, whose arguments are cut."""
    written = WRITTEN[0]
    calls = (ToolCall("f", {"a": 1}, "c0"), ToolCall("sh", {"input": TEXT}, "c1", 1))
    return (
        Delta(tool_parts=(ToolCallPart(0, "f", '{"a":1}', "c0"),), tool_calls=calls[:1]),
        Delta(tool_parts=(ToolCallPart(1, "sh", written[:at], "c1"),)),
        Delta(tool_parts=(ToolCallPart(1, "", written[at:]),), tool_calls=calls[1:]),
        Finished(FinishReason.TOOL_CALLS),
    )


@pytest.mark.parametrize("at", range(0, len(WRITTEN[0]), 5))
async def test_chats_tell_texts(at: int) -> None:
    shape = replace(CHAT, custom=frozenset({"sh"}))
    pieces = [
        piece async for piece in stream("m", [events(*answer(at))], shape, include_usage=False)
    ]
    chunks = [json.loads(piece[6:])["choices"][0] for piece in pieces[:-1]]
    parts = [part for chunk in chunks for part in chunk["delta"].get("tool_calls", ())]
    assert [(part["index"], part.get("type")) for part in parts[:2]] == [
        (0, "function"),
        (1, "custom"),
    ]
    assert parts[1]["custom"]["name"] == "sh"
    assert "".join(part["custom"]["input"] for part in parts[1:]) == TEXT
    assert chunks[-1]["finish_reason"] == "tool_calls"
    document = await whole("m", [events(*answer(at))], shape)
    told = document["choices"][0]["message"]["tool_calls"]
    assert [call["type"] for call in told] == ["function", "custom"]
    assert told[1] == {"id": "c1", "type": "custom", "custom": {"name": "sh", "input": TEXT}}


@pytest.mark.parametrize("at", range(0, len(WRITTEN[0]), 5))
async def test_responses_tell_texts(at: int) -> None:
    wanted = asked(tools=[{"type": "custom", "name": "sh"}, {"type": "function", "name": "f"}])
    pieces = response_stream(wanted, events(*answer(at)), lambda *_: None)
    told = [json.loads(piece.decode().split("\n")[1][6:]) async for piece in pieces]
    grown = [e["delta"] for e in told if e["type"] == "response.custom_tool_call_input.delta"]
    (done,) = [e for e in told if e["type"] == "response.custom_tool_call_input.done"]
    assert "".join(grown) == done["input"] == TEXT
    function, custom = told[-1]["response"]["output"]
    assert (function["type"], function["arguments"]) == ("function_call", '{"a":1}')
    assert (custom["type"], custom["call_id"], custom["name"]) == ("custom_tool_call", "c1", "sh")
    assert (custom["input"], custom["status"]) == (TEXT, "completed")
