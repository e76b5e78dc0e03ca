"""Anthropic's dialect as pure translation: every way a stream can be cut, every block."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from qm.daemon.chat.request import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Format,
    Message,
    Metrics,
    Request,
    Started,
    ToolCall,
    ToolCallPart,
    ToolChoice,
)
from qm.daemon.http.anthropic_answer import stream, whole
from qm.daemon.http.anthropic_request import messages_request
from qm.daemon.http.fields import Fields
from qm.daemon.runner.wire import Options
from qm.store.errors import InvalidRequest

REQUEST = Request("m", options=Options(stop=("END",)))
METRICS = Metrics(prompt_tokens=5, generated_tokens=3)


async def events(*all_events: Event) -> AsyncGenerator[Event]:
    for event in all_events:
        yield event


async def streamed(*all_events: Event) -> list[Any]:
    """The documents of the stream, each known to be under its own name."""
    documents = []
    async for piece in stream(REQUEST, events(*all_events)):
        name, data, *rest = piece.decode().split("\n")
        documents.append(json.loads(data.removeprefix("data: ")))
        assert (name, rest) == (f"event: {documents[-1]['type']}", ["", ""])
    return documents


@pytest.mark.parametrize("at", range(6))
async def test_blocks_come_one_after_the_other(at: int) -> None:
    """Thinking, text and a call: each begins, grows and ends before the next, wherever cut."""
    text, arguments = "hello", '{"a":1}'
    call = ToolCall("f", {"a": 1}, "call_1")
    documents = await streamed(
        Started(5),
        Delta(thinking="so"),
        Delta(text[:at]),
        Delta(text[at:]),
        Delta(tool_parts=(ToolCallPart(0, "f", arguments[:at], "call_1"),)),
        Delta(tool_parts=(ToolCallPart(0, "f", arguments[at:]),), tool_calls=(call,)),
        Finished(FinishReason.STOP, METRICS),
    )
    assert documents[0]["message"]["usage"] == {"input_tokens": 5, "output_tokens": 0}
    blocks: list[Any] = []
    is_open = False
    for each in documents:
        match each["type"]:
            case "content_block_start":
                assert not is_open
                assert each["index"] == len(blocks)
                is_open = True
                blocks.append((each["content_block"]["type"], ""))
            case "content_block_delta":
                assert is_open
                (grown,) = [v for k, v in each["delta"].items() if k != "type"]
                blocks[-1] = (blocks[-1][0], blocks[-1][1] + grown)
            case "content_block_stop":
                is_open = False
    assert not is_open
    assert blocks == [("thinking", "so"), ("text", "hello"), ("tool_use", arguments)]
    assert documents[-2]["delta"] == {"stop_reason": "tool_use"}
    assert documents[-2]["usage"] == {"input_tokens": 5, "output_tokens": 3}
    assert documents[-1]["type"] == "message_stop"


async def test_reasoning_is_signed() -> None:
    """By nobody; but clients that check what they get want the field, as Vercel's does."""
    answer = (Delta(thinking="so"), Delta("a"), Finished(FinishReason.STOP, METRICS))
    block = {"type": "thinking", "thinking": "so", "signature": ""}
    assert (await whole(REQUEST, events(*answer)))["content"][0] == block
    assert (await streamed(Started(1), *answer))[1]["content_block"] == block | {"thinking": ""}


@pytest.mark.parametrize(
    ("finished", "told"),
    [
        (Finished(FinishReason.STOP), {"stop_reason": "end_turn"}),
        (Finished(FinishReason.LENGTH), {"stop_reason": "max_tokens"}),
        (
            Finished(FinishReason.STOP_SEQUENCE, stop_sequence="END"),
            {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        ),
        (
            Finished(FinishReason.STOP_SEQUENCE, stop_sequence="<|im_end|>"),
            {"stop_reason": "end_turn"},
        ),
    ],
)
async def test_why_it_ended(finished: Finished, told: dict[str, str]) -> None:
    """A stop text of the model's own is its usual end, not the client's sequence."""
    document = await whole(REQUEST, events(Delta("a"), finished))
    assert {k: v for k, v in document.items() if k.startswith("stop")} == told
    assert document["content"] == [{"type": "text", "text": "a"}]
    assert (await streamed(Started(1), finished))[-2]["delta"] == told


RESULT = {"type": "tool_result", "tool_use_id": "c"}


def asked(**fields: object) -> Request:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    return messages_request(Fields(body | fields, "MessagesRequest"))


def test_blocks_become_turns() -> None:
    """Results of tools are turns of their own, with the name of the tool that was called."""
    image = {"type": "image", "source": {"type": "base64", "data": "aGk="}}
    use = {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "r"}]}
    turns = asked(
        system=[{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"}, image]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}, use]},
            {"role": "user", "content": [result, {"type": "text", "text": "b"}]},
        ],
    ).messages
    assert turns == (
        Message("system", "s"),
        Message("user", "a", images=(b"hi",)),
        Message("assistant", thinking="t", tool_calls=(ToolCall("f", {"a": 1}, "c"),)),
        Message("tool", "r", tool_name="f", tool_call_id="c"),
        Message("user", "b"),
    )


def test_a_last_turn_of_the_assistant_begins_the_answer() -> None:
    """Which comes without reasoning then, as at Anthropic; calls of tools begin nothing."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
    begun = asked(messages=[*turns, {"role": "assistant", "content": "{"}])
    assert (begun.continues, begun.think) == (True, False)
    use = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    called = asked(messages=[*turns, {"role": "assistant", "content": [use]}])
    assert (called.continues, called.think) == (False, None)


def test_what_a_client_has_found_is_read() -> None:
    """Beside a question, and as the result of a tool."""
    found = {
        "type": "search_result",
        "title": "Sky",
        "source": "https://a.example",
        "content": [{"type": "text", "text": "Blue."}],
    }
    result = {"type": "tool_result", "tool_use_id": "c", "content": [found]}
    turns = asked(messages=[{"role": "user", "content": [result, found]}]).messages or ()
    assert [turn.content for turn in turns] == ["Sky\nhttps://a.example\n\nBlue."] * 2


def test_fields_of_a_request() -> None:
    request = asked(
        temperature=0.5,
        top_k=3,
        stop_sequences=["x"],
        tools=[{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        tool_choice={"type": "tool", "name": "f"},
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        keep_alive="1m",
    )
    assert (request.options.num_predict, request.options.top_k) == (5, 3)
    assert request.options.stop == ("x",)
    assert request.tools[0]["function"]["parameters"] == {"type": "object"}
    assert request.tool_choice == ToolChoice("required", "f")
    assert (request.think, request.keep_alive_s) == (None, 60)  # by itself, if it can
    assert request.format == Format({"type": "object"})
    assert asked(tool_choice={"type": "any"}).tool_choice == ToolChoice("required")
    single = asked(tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert (request.parallel_calls, single.parallel_calls) == (True, False)
    assert asked(thinking={"type": "disabled"}).think is False


def test_what_anthropic_runs_is_left_out_beside_other_tools() -> None:
    """A result of a tool may be a text document."""
    source = {"type": "text", "media_type": "text/plain", "data": "long"}
    result = RESULT | {"content": [{"type": "document", "source": source}]}
    request = asked(
        tools=[{"type": "web_search_20250305", "name": "web_search"}, {"name": "f"}],
        messages=[{"role": "user", "content": [result]}],
    )
    assert [tool["function"]["name"] for tool in request.tools] == ["f"]
    assert request.messages is not None
    assert request.messages[0].content == "long"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_tokens": None}, "max_tokens is required and must be positive"),
        ({"max_tokens": 0}, "max_tokens is required"),
        ({"max_tokens": 2**31}, "max_tokens must be at most 2147483647"),
        ({"messages": []}, "messages is required"),
        ({"messages": "x"}, "string into Go struct field MessagesRequest.messages"),
        ({"messages": [{"role": "robot"}]}, r"messages\[0\].role must be user or assistant"),
        (
            {"messages": [{"role": "user", "content": [{"type": "bogus"}]}]},
            r"messages\[0\].content\[0\].type: no block type 'bogus' is known",
        ),
        ({"thinking": {"type": "huge"}}, "thinking.type must be"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type must be"),
        ({"tool_choice": {"type": "x"}}, "tool_choice.type must be"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name is required"),
        ({"tools": [{"type": "web_search_20250305"}]}, r"tools\[0\].type: 'web_search_20250305'"),
        ({"thinking": {"type": "enabled", "budget_tokens": -4}}, "budget_tokens must not be neg"),
        ({"system": [{"type": "image"}]}, r"system\[0\].type: no block type 'image' is known"),
        (
            {"messages": [{"role": "user", "content": [RESULT | {"content": [{"type": "x"}]}]}]},
            r"messages\[0\].content\[0\].content\[0\].type: no block type 'x' is known",
        ),
        ({"stop_sequences": [3]}, r"stop_sequences\[0\] of type string"),
        ({"temperature": "x"}, "temperature"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        asked(**fields)
    assert caught.value.status == 400
