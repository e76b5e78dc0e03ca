"""The responses API as pure translation, and the memory that later requests go on from."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from qm.daemon.chat.options import completed
from qm.daemon.chat.request import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Format,
    Message,
    Metrics,
    Started,
    ToolCall,
    ToolCallPart,
    ToolChoice,
)
from qm.daemon.http.dialects.responses import stream_error
from qm.daemon.http.fields import Fields
from qm.daemon.http.responses_answer import opened, stream, whole
from qm.daemon.http.responses_items import input_items, page, with_items
from qm.daemon.http.responses_memory import ItemNotFound, ResponseMemory, ResponseNotFound
from qm.daemon.http.responses_request import Asked, responses_request
from qm.daemon.runner.wire import Options
from qm.store.errors import InvalidRequest

METRICS = Metrics(prompt_tokens=5, cached_tokens=2, generated_tokens=3)


def asked(**fields: object) -> Asked:
    return responses_request(Fields({"model": "m", "input": "hi", **fields}, "ResponsesRequest"))


async def events(*all_events: Event) -> AsyncGenerator[Event]:
    for event in all_events:
        yield event


async def answered(request: Asked, *all_events: Event) -> Any:
    """The whole response; it is not kept."""
    return await whole(request, opened(request), events(*all_events), lambda *_: None)


@pytest.mark.parametrize("at", range(6))
async def test_items_come_one_after_the_other(at: int) -> None:
    """Reasoning, a message, a call: the stream's parts add up to the response, wherever cut."""
    arguments = '{"a":1}'
    call = ToolCall("f", {"a": 1}, "call_1")
    kept: list[tuple[Any, Message]] = []
    documents = []
    pieces = stream(
        asked(),
        events(
            Started(5),
            Delta(thinking="so"),
            Delta("hello"[:at]),
            Delta("hello"[at:]),
            Delta(tool_parts=(ToolCallPart(0, "f", arguments[:at], "call_1"),)),
            Delta(tool_parts=(ToolCallPart(0, "f", arguments[at:]),), tool_calls=(call,)),
            Finished(FinishReason.STOP, METRICS),
        ),
        lambda document, turn: kept.append((document, turn)),
    )
    async for piece in pieces:
        name, data, *_ = piece.decode().split("\n")
        documents.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {documents[-1]['type']}"
    assert [each["sequence_number"] for each in documents] == list(range(len(documents)))
    grown: dict[str, str] = {}
    for each in documents:
        if each["type"].endswith(".delta"):
            grown[each["item_id"]] = grown.get(each["item_id"], "") + each["delta"]
    assert list(grown.values()) == ["so", "hello", arguments]
    kinds = [each["type"] for each in documents]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done")
    final = documents[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["reasoning", "message", "function_call"]
    assert final["output"][1]["content"][0]["text"] == "hello"
    assert (final["output"][2]["arguments"], final["output"][2]["call_id"]) == (arguments, "call_1")
    assert final["usage"]["input_tokens_details"] == {"cached_tokens": 2}
    ((document, turn),) = kept
    assert document["id"] == final["id"]
    assert turn == Message("assistant", "hello", tool_calls=(call,))


async def test_a_response_tells_the_options_in_force() -> None:
    """Those of the model where the request had none; and how many tokens were reasoning."""
    metrics = Metrics(prompt_tokens=5, generated_tokens=3, reasoning_tokens=2)
    options = completed(Options(temperature=0.25, top_p=0.5))
    document = await answered(asked(), Started(5, options), Finished(FinishReason.STOP, metrics))
    assert (document["temperature"], document["top_p"]) == (0.25, 0.5)
    assert (document["presence_penalty"], document["frequency_penalty"]) == (0, 0)
    assert document["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


async def test_the_length_limit_leaves_it_incomplete() -> None:
    finished = Finished(FinishReason.LENGTH, METRICS)
    document = await answered(asked(), Delta("a"), finished)
    assert document["status"] == "incomplete"
    assert document["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_stream_that_fails_says_so() -> None:
    """`response.failed` with what there is, before the error; nothing is kept."""

    async def failing() -> AsyncGenerator[Event]:
        yield Started(1)
        yield Delta("a")
        raise InvalidRequest("no")

    seen: list[bytes] = []
    with pytest.raises(InvalidRequest, match="no"):
        async for piece in stream(asked(), failing(), lambda *_: pytest.fail("kept")):
            seen.append(piece)  # noqa: PERF401  the list must survive the error
    assert seen[-1].startswith(b"event: response.failed\n")


def test_items_become_turns() -> None:
    """Neighbouring calls are one turn; results get the name of the tool that was called."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'}
    result = {"type": "function_call_output", "call_id": "c", "output": "18C"}
    parts = [
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
    ]
    messages = asked(
        instructions="s",
        input=[
            {"role": "user", "content": "q"},
            {"type": "reasoning", "summary": []},
            call,
            result,
            {"type": "message", "role": "developer", "content": parts},
        ],
    ).request.messages
    assert messages == (
        Message("system", "s"),
        Message("user", "q"),
        Message("assistant", tool_calls=(ToolCall("f", {"a": 1}, "c"),)),
        Message("tool", "18C", tool_name="f", tool_call_id="c"),
        Message("system", "a", images=(b"hi",)),
    )


async def test_tools_in_namespaces() -> None:
    """The model knows them by one name, the client by two, as Codex does; both ways."""
    spawn = {"type": "function", "name": "spawn", "description": "d", "parameters": {}}
    tools: list[dict[str, Any]] = [
        {"type": "function", "name": "agents__spawn"},
        {"type": "namespace", "name": "agents", "description": "n", "tools": [spawn]},
        {"type": "namespace", "name": "mcp__web__", "tools": [spawn]},
        {"type": "web_search", "external_web_access": False},
    ]
    before = {"type": "function_call", "call_id": "c", "name": "spawn", "namespace": "mcp__web__"}
    request = asked(tools=tools, input=[before, {"role": "user", "content": "Go on."}])
    names = [tool["function"]["name"] for tool in request.request.tools]
    assert names == ["agents__spawn", "agents__spawn_", "mcp__web__spawn"]
    assert request.request.messages is not None
    assert request.request.messages[0].tool_calls[0].name == "mcp__web__spawn"
    calls = [ToolCall(name, {}, str(index), index) for index, name in enumerate(names)]
    document = await answered(
        request, Delta(tool_calls=tuple(calls)), Finished(FinishReason.TOOL_CALLS, METRICS)
    )
    told = [(item.get("namespace"), item["name"]) for item in document["output"]]
    assert told == [(None, "agents__spawn"), ("agents", "spawn"), ("mcp__web__", "spawn")]
    assert [tool["type"] for tool in document["tools"]] == [tool["type"] for tool in tools]
    assert document["tools"][1]["tools"][0]["name"] == "spawn"


def test_fields_of_a_request() -> None:
    request = asked(
        max_output_tokens=5,
        temperature=0.5,
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
        reasoning={"effort": "low"},
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        truncation="auto",
    ).request
    assert (request.options.num_predict, request.options.temperature) == (5, 0.5)
    assert request.format == Format({"type": "object"})
    assert (request.think, request.truncate) == ("low", True)
    assert request.tools[0]["function"]["name"] == "f"
    assert request.tool_choice == ToolChoice("required", "f")
    assert request.parallel_calls is False


def test_json_without_a_schema_is_an_object() -> None:
    request = asked(text={"format": {"type": "json_object"}}).request
    assert request.format == Format({"type": "object"})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"input": ""}, "input is required"),
        ({"input": 3}, r"number into Go struct field ResponsesRequest.input"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type must be .* not 'xml'"),
        ({"input": [{"type": "bogus"}]}, r"input\[0\].type: no item type 'bogus'"),
        ({"tools": [{"type": "web_search"}]}, r"tools\[0\].type: 'web_search' runs at OpenAI"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "shell"}]}]},
            r"tools\[0\].tools\[0\].type: tools of type 'shell'",
        ),
        ({"conversation": "conv_1"}, "conversation: it is kept at OpenAI only"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt: it is kept at OpenAI only"),
        ({"max_output_tokens": -5}, "max_output_tokens must not be negative"),
        ({"max_output_tokens": 2**31}, "max_output_tokens must be at most 2147483647"),
        ({"temperature": "x"}, "temperature"),
        ({"reasoning": {"effort": "x"}}, "reasoning.effort must be one of"),
        (
            {"input": [{"type": "function_call", "arguments": "{"}]},
            "invalid tool call arguments",
        ),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        asked(**fields)


def test_memory_is_bounded_by_number_and_by_bytes() -> None:
    """The oldest unused goes first; what is gone is a clear error."""
    memory = ResponseMemory(most=2, most_bytes=10_000)
    for name in ("a", "b"):
        memory.keep({"id": name}, (), ())
    memory.get("a")
    memory.keep({"id": "c"}, (), ())
    with pytest.raises(ResponseNotFound):
        memory.get("b")
    memory.keep({"id": "big"}, (Message("user", "x" * 9_480),), ())
    assert memory.get("big").document == {"id": "big"}
    for name in ("a", "c"):
        with pytest.raises(ResponseNotFound, match=f"'{name}'"):
            memory.get(name)
    call = ToolCall("f", {"a": "x" * 20_000})
    for huge in (Message("user", "x" * 20_000), Message("assistant", tool_calls=(call,))):
        memory.keep({"id": "huge"}, (huge,), ())
        with pytest.raises(ResponseNotFound):
            memory.get("huge")
    memory.keep({"id": "d"}, (), ())
    memory.forget("d")
    with pytest.raises(ResponseNotFound):
        memory.forget("d")
    memory.keep({"id": "e"}, (), ({"text": "x" * 9_000},))
    memory.keep({"id": "e"}, (), ({"text": "y" * 9_000},))
    assert memory.get("e").items == ({"text": "y" * 9_000},), "the same response takes its place"


def test_input_items_are_as_the_client_wrote_them() -> None:
    """With ids, and texts as parts: so the SDKs read them."""
    written: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "yes?"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "3"},
    ]
    items = asked(input=written).items
    assert [item["type"] for item in items] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
    ]
    assert items[0]["content"] == [{"type": "input_text", "text": "hi"}]
    assert items[1]["content"] == written[1]["content"]
    assert items[2]["id"] == "fc_1"
    assert len({item["id"] for item in items}) == 4
    (alone,) = input_items(Fields({"input": "hi"}))
    assert (alone["role"], alone["content"]) == ("user", items[0]["content"])


def test_items_may_be_named_by_their_ids() -> None:
    """Of what came out of a kept response, and of what was put in; Vercel's SDK sends no more."""
    call = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    question = {"id": "msg_1", "type": "message", "role": "user", "content": "hi"}
    memory = ResponseMemory()
    memory.keep({"id": "resp_1", "output": [call]}, (), (question,))
    result = {"type": "function_call_output", "call_id": "c", "output": "1"}
    named = [{"id": "msg_1"}, {"type": "item_reference", "id": "fc_1"}, result]
    fields = with_items(Fields({"model": "m", "input": named}), memory.item)
    assert responses_request(fields).turns == asked(input=[question, call, result]).turns
    with pytest.raises(ItemNotFound, match="fc_2"):
        with_items(Fields({"input": [{"type": "item_reference", "id": "fc_2"}]}), memory.item)


def test_items_come_in_pages() -> None:
    """Newest first unless asked otherwise, each page behind the last of the one before."""
    items = [{"id": str(number)} for number in range(5)]
    first = page(items, {"limit": "2"})
    assert [item["id"] for item in first["data"]] == ["4", "3"]
    assert (first["first_id"], first["last_id"], first["has_more"]) == ("4", "3", True)
    rest = page(items, {"after": "3"})
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == (["2", "1", "0"], False)
    upwards = page(items, {"order": "asc", "limit": "1"})
    assert upwards["data"] == [{"id": "0"}]
    nothing = page([], {})
    assert (nothing["data"], nothing["first_id"], nothing["has_more"]) == ([], None, False)
    wrong = (("limit", "0"), ("limit", "101"), ("limit", "x"), ("order", "up"), ("after", "9"))
    for name, value in wrong:
        with pytest.raises(InvalidRequest, match=name):
            page(items, {name: value})


@pytest.mark.parametrize("fields", [{"store": False}, {"stream": True}])
def test_a_background_response_must_be_fetchable(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="background"):
        asked(background=True, **fields)


def test_an_error_in_a_stream_is_an_event_of_its_own_type() -> None:
    """As the SDK's types have it; the error's own type stands in `error`."""
    told = {"error": {"type": "api_error", "message": "no", "param": None, "code": None}}
    event = json.loads(stream_error(told).split(b"\n")[1][6:])
    assert (event["type"], event["message"], event["error"]["type"]) == ("error", "no", "api_error")
