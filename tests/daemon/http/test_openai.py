"""OpenAI's dialect as pure translation: every way a stream can be cut, every field that is read."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from qm.daemon.chat.request import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Format,
    Metrics,
    Started,
    ToolCall,
    ToolCallPart,
    ToolChoice,
)
from qm.daemon.http.fields import Fields
from qm.daemon.http.openai_answer import CHAT, FUNCTIONS, TEXT, stream, whole
from qm.daemon.http.openai_request import chat_wanted, completion_wanted, embed_wanted
from qm.daemon.runner.wire import TokenLogprob
from qm.store.errors import InvalidRequest

METRICS = Metrics(prompt_tokens=5, generated_tokens=3)
CALL = ToolCall("f", {"a": 1}, id="call_1")


async def events(*all_events: Event) -> AsyncGenerator[Event]:
    for event in all_events:
        yield event


def split(text: str, at: int) -> tuple[Event, ...]:
    return (
        Started(5),
        Delta(thinking="so"),
        Delta(text[:at]),
        Delta(text[at:]),
        Delta(tool_calls=(CALL,)),
        Finished(FinishReason.STOP, METRICS),
    )


async def streamed(*answers: Sequence[Event], **how: Any) -> list[Any]:
    pieces = [
        piece async for piece in stream("m", [events(*each) for each in answers], CHAT, **how)
    ]
    assert pieces[-1] == b"data: [DONE]\n\n"
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in pieces)
    return [json.loads(piece[6:]) for piece in pieces[:-1]]


async def test_a_chunk_has_one_piece_a_call() -> None:
    """OpenAI's own client reads no more of its first chunk."""
    parts = (ToolCallPart(0, "f", "", "call_1"), ToolCallPart(0, "", "{"), ToolCallPart(1, "g", ""))
    answer = (Delta(tool_parts=parts), Finished(FinishReason.STOP, METRICS))
    chunks = await streamed(answer, include_usage=False)
    first, second = chunks[0]["choices"][0]["delta"]["tool_calls"]
    assert (first["id"], first["function"]) == ("call_1", {"name": "f", "arguments": "{"})
    assert (second["index"], second["function"]["name"]) == (1, "g")


async def test_tokens_of_reasoning_are_told_where_there_are_some() -> None:
    """In the usage of all choices together."""
    metrics = Metrics(prompt_tokens=5, generated_tokens=3, reasoning_tokens=2)
    answers = [events(Delta("a"), Finished(FinishReason.STOP, one)) for one in (metrics, METRICS)]
    usage = (await whole("m", answers, CHAT))["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 2}
    plain = await whole("m", [events(Finished(FinishReason.STOP, METRICS))], CHAT)
    assert plain["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}


@pytest.mark.parametrize("at", range(6))
async def test_a_chat_is_the_same_wherever_it_is_cut(at: int) -> None:
    """Reasoning, words, a call and the reason arrive; the first piece has the role."""
    chunks = await streamed(split("hello", at), include_usage=True)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == "hello"
    assert [delta.get("role") for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    assert [d["reasoning"] for d in deltas if "reasoning" in d] == ["so"]
    (call,) = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert (call["index"], call["id"], call["function"]["arguments"]) == (0, "call_1", '{"a":1}')
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert all("usage" not in chunk for chunk in chunks[:-1])
    document = await whole("m", [events(*split("hello", at))], CHAT)
    message = document["choices"][0]["message"]
    assert message["content"] == "hello"
    assert message["reasoning_content"] == "so"
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}


async def test_calls_are_numbered_through_a_stream() -> None:
    """Clients gather the parts of a call by its index."""
    chunks = await streamed(
        (
            Delta(tool_calls=(ToolCall("f", {}), ToolCall("g", {}, index=1))),
            Delta(tool_parts=(ToolCallPart(2, "h", '{"a"', "c"),)),
            Delta(
                tool_parts=(ToolCallPart(2, "h", ":1}"),), tool_calls=(ToolCall("h", {}, "c", 2),)
            ),
            Finished(FinishReason.STOP),
        ),
        include_usage=False,
    )
    calls = [c for chunk in chunks for c in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 1, 2, 2]
    assert [call["function"].get("name") for call in calls] == ["f", "g", "h", None]
    assert "".join(call["function"]["arguments"] for call in calls[2:]) == '{"a":1}'
    assert all(call["id"] for call in calls[:3])


async def test_choices_share_a_stream() -> None:
    """Usage counts the prompt once; an error of one ends all, and every answer is closed."""
    two = await streamed(split("ab", 1), split("cd", 1), include_usage=True, n=2)
    for index, text in enumerate(("ab", "cd")):
        mine = [c["choices"][0] for c in two if c["choices"] and c["choices"][0]["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in mine) == text
    assert two[-1]["usage"]["completion_tokens"] == 6
    assert two[-1]["usage"]["prompt_tokens"] == 5
    closed: list[int] = []

    async def endless(number: int) -> AsyncGenerator[Event]:
        try:
            while True:
                yield Delta("x")
        finally:
            closed.append(number)

    async def failing() -> AsyncGenerator[Event]:
        yield Delta("x")
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest, match="no"):
        await whole("m", [endless(0), failing(), endless(1)], CHAT)
    assert sorted(closed) == [0, 1]


@pytest.mark.parametrize("at", range(4))
async def test_offsets_run_on_through_a_stream(at: int) -> None:
    """However the tokens come, and where they cut a character in two."""
    whole_text = [("Hi", b"Hi"), (" \ufffd", b" \xc3"), ("\ufffd", b"\xa9"), ("!", b"!")]
    first = TokenLogprob("Hi", 0.0, tuple(b"Hi"), known=False)
    rest = [TokenLogprob(text, -1.0, tuple(data)) for text, data in whole_text[1:]]
    entries = (first, *rest)
    told: list[Event] = [Delta("Hi é"), Delta(logprobs=entries[:at]), Delta(logprobs=entries[at:])]
    answer: list[Event] = [*told, Finished(FinishReason.LENGTH)]
    pieces = [json.loads(piece[6:]) async for piece in text_stream(answer)]
    parts = [piece["choices"][0].get("logprobs") for piece in pieces]
    document = await whole("m", [events(*answer)], TEXT)
    logprobs = document["choices"][0]["logprobs"]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [one for part in parts if part for one in part[name]] == logprobs[name]
    assert logprobs["text_offset"] == [0, 2, 3, 4]
    assert logprobs["token_logprobs"] == [None, -1.0, -1.0, -1.0]
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["top_logprobs"][3] == {"!": -1.0}


async def text_stream(answer: Sequence[Event]) -> AsyncGenerator[bytes]:
    async for piece in stream("m", [events(*answer)], TEXT, include_usage=False):
        if piece != b"data: [DONE]\n\n":
            yield piece


async def test_prompts_count_once_for_all_their_answers() -> None:
    """Two prompts with two answers each."""
    answers = [
        events(Finished(FinishReason.STOP, Metrics(prompt_tokens=n, generated_tokens=1)))
        for n in (3, 3, 4, 4)
    ]
    document = await whole("m", answers, TEXT, 2)
    assert document["usage"] == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}


def chat(**fields: object) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return chat_wanted(Fields(body, "ChatCompletionRequest"))


def test_fields_of_a_chat() -> None:
    """What the SDK offers reaches the one internal request."""
    wanted = chat(
        max_tokens=5,
        max_completion_tokens=6,
        temperature=0.5,
        seed=3,
        stop=["a", "b"],
        logit_bias={"5": -100},
        n=2,
        tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        reasoning_effort="xhigh",
        logprobs=True,
        top_logprobs=4,
        keep_alive=30,
    )
    first, second = wanted.requests
    assert (first.options.num_predict, first.options.temperature) == (6, 0.5)
    assert first.options.stop == ("a", "b")
    assert first.options.logit_bias == {5: -100}
    assert (first.options.seed, second.options.seed) == (3, 4)
    assert first.tool_choice == ToolChoice("required", "f")
    assert first.format == Format(json_schema={"type": "object"})
    assert (first.think, first.top_logprobs, first.keep_alive_s) == ("max", 4, 30)
    assert chat(tool_choice="none").requests[0].tool_choice == ToolChoice("none")


@pytest.mark.parametrize("nested", [True, False])
def test_a_choice_may_allow_some_tools(nested: bool) -> None:
    """Chat keeps the list one level lower than responses do."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "h")]
    named = [{"type": "function", "function": {"name": name}} for name in ("h", "f")]
    allowance = {"mode": "required", "tools": named}
    choice = {"allowed_tools": allowance} if nested else allowance
    (request,) = chat(tools=tools, tool_choice={"type": "allowed_tools", **choice}).requests
    assert request.tool_choice == ToolChoice("required")
    assert [tool["function"]["name"] for tool in request.tools] == ["h", "f"]
    assert chat(parallel_tool_calls=False).requests[0].parallel_calls is False
    assert chat(response_format={"type": "json_object"}).requests[0].format == Format({})
    assert chat(reasoning_effort="none").requests[0].think is False
    assert chat(max_tokens=-1).requests[0].options.num_predict == -1


def test_old_clients_speak_of_functions() -> None:
    """`functions` are tools, `function_call` chooses; tools win where both are given."""
    function = {"name": "f", "parameters": {"type": "object"}}
    (request,) = chat(functions=[function]).requests
    assert request.tools == ({"type": "function", "function": function},)
    assert (request.tool_choice, request.parallel_calls) == (ToolChoice(), False)
    assert chat(functions=[function]).functions
    for choice, meant in (
        ("none", ToolChoice("none")),
        ("auto", ToolChoice()),
        ({"name": "f"}, ToolChoice("required", "f")),
    ):
        (request,) = chat(functions=[function], function_call=choice).requests
        assert request.tool_choice == meant
    both = chat(functions=[function], tools=[], function_call=3)
    assert (both.functions, both.requests[0].tools) == (False, ())
    call = {"name": "f", "arguments": '{"a":1}'}
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": "3"},
    ]
    messages = chat(functions=[function], messages=turns).requests[0].messages
    assert messages[1].tool_calls == (ToolCall("f", {"a": 1}),)
    assert (messages[2].role, messages[2].tool_name) == ("tool", "f")


async def test_old_clients_get_a_function_call() -> None:
    """One, whole or in pieces that add up, and the reason that they look for."""
    answer = (
        Delta(tool_parts=(ToolCallPart(0, "f", '{"a"', "c"),)),
        Delta(tool_parts=(ToolCallPart(0, "f", ":1}"),), tool_calls=(replace(CALL, id="c"),)),
        Finished(FinishReason.TOOL_CALLS),
    )
    document = await whole("m", [events(*answer)], FUNCTIONS)
    (choice,) = document["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in choice["message"]
    pieces = [
        json.loads(piece[6:])["choices"][0]
        async for piece in stream("m", [events(*answer)], FUNCTIONS, include_usage=False)
        if piece != b"data: [DONE]\n\n"
    ]
    told = [each["delta"]["function_call"] for each in pieces[:-1]]
    assert [part.get("name") for part in told] == ["f", None]
    assert "".join(part["arguments"] for part in told) == '{"a":1}'
    assert pieces[-1]["finish_reason"] == "function_call"


def test_turns_of_a_chat() -> None:
    """Parts become text and images, a tool's result gets the tool's name."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "input_audio", "input_audio": {"data": "aG8=", "format": "wav"}},
    ]
    turns = (
        chat(
            messages=[
                {"role": "developer", "content": "s"},
                {"role": "user", "content": parts},
                {"role": "assistant", "content": None, "reasoning": "r", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "18C"},
            ]
        )
        .requests[0]
        .messages
    )
    assert (turns[0].role, turns[1].content, turns[1].images) == ("system", "a", (b"hi", b"ho"))
    assert turns[2].tool_calls == (ToolCall("f", {"a": 1}, "c", 0),)
    assert (turns[2].thinking, turns[3].tool_name) == ("r", "f")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"messages": []}, r"\[\] is too short"),
        ({"messages": [{"role": "user", "content": 3}]}, "invalid message content type: float64"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "invalid message format"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "input_audio", "input_audio": {"data": "?"}}],
                    }
                ]
            },
            "invalid audio input",
        ),
        ({"messages": [{"role": "user", "content": [3]}]}, r"messages\[0\].content\[0\] of type"),
        ({"max_tokens": "5"}, r"string into Go struct field .*\.max_tokens of type int"),
        ({"max_tokens": -2}, "max_tokens must not be negative"),
        ({"response_format": {"type": "xml"}}, "response_format.type must be .* not 'xml'"),
        ({"n": 0}, "n must be between 1 and 128"),
        ({"n": 10**9}, "n must be between"),
        ({"temperature": "hot"}, 'option "temperature"'),
        ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ({"tool_choice": "maybe"}, "tool_choice must be"),
        ({"tool_choice": {"type": "function"}}, "tool_choice must be"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "some"}}, "tool_choice must be"),
        ({"tool_choice": {"type": "allowed_tools"}}, "allows none, which"),
        (
            {"tool_choice": {"type": "allowed_tools", "tools": [{"name": "g"}]}},
            "allows 'g', which is not among tools",
        ),
        ({"tools": [3]}, r"tools\[0\] of type openai.Tool"),
        ({"tools": [{"function": "f"}]}, r"tools\[0\].function of type openai.Tool"),
        ({"tools": [{"function": {"name": 5}}]}, r"tools\[0\].function.name of type string"),
        ({"tools": [{"function": {"parameters": "x"}}]}, r"function.parameters of type map"),
        ({"functions": [{"parameters": {"properties": []}}]}, r"parameters.properties of type map"),
        ({"reasoning_effort": "huge"}, "reasoning_effort must be one of"),
        ({"reasoning_effort": 3}, "reasoning_effort of type string"),
        ({"stream_options": {"include_usage": 1}}, r"stream_options.include_usage of type bool"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"functions": {}}, r"functions of type \[\]openai.Function"),
        ({"functions": [], "function_call": "f"}, "function_call must be auto, none or name"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], reason: str) -> None:
    """Each a 400 that says which field."""
    with pytest.raises(InvalidRequest, match=reason) as caught:
        chat(**fields)
    assert caught.value.status == 400
    assert caught.value.field.split(".")[0].split("[")[0] in fields


def completion(**fields: object) -> Any:
    return completion_wanted(Fields({"model": "m", **fields}, "CompletionRequest"))


def test_prompts_of_completions() -> None:
    assert [r.prompt for r in completion(prompt=["a", "b"]).requests] == ["a", "b"]
    assert [r.tokens for r in completion(prompt=[1, 2]).requests] == [(1, 2)]
    assert [r.tokens for r in completion(prompt=[[1], [2]]).requests] == [(1,), (2,)]
    assert completion().requests[0].load_only
    assert completion(prompt="a", suffix="b").requests[0].raw is False
    echoed = completion(prompt=["a", "b"], n=2, echo=True)
    assert ([r.echo for r in echoed.requests], echoed.n) == ([True] * 4, 2)
    assert completion(prompt=[1], echo=True, logprobs=0).requests[0].logprobs
    for fields, reason in (
        ({"prompt": 3}, "prompt of type string"),
        ({"prompt": ["a", 3]}, "must hold texts or tokens"),
        ({"prompt": [-1]}, r"prompt\[0\] of type int"),
        ({"prompt": "a", "suffix": "b", "echo": True, "logprobs": 1}, "are not scored"),
        ({"prompt": "a", "best_of": 3}, "best_of is not supported"),
        ({"prompt": ["a"] * 100, "n": 2}, "at most 128 choices"),
        ({"prompt": "a", "logprobs": 21}, "logprobs must be between"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            completion(**fields)


def test_inputs_of_embeddings() -> None:
    def embed(**fields: object) -> Any:
        return embed_wanted(Fields({"model": "m", **fields}, "EmbedRequest"))

    assert embed(input="").texts == ("",)
    assert embed(input=["a", "b"]).texts == ("a", "b")
    assert embed(input=[[1, 2], [3]]).tokens == ((1, 2), (3,))
    assert embed(input="a", dimensions=3, encoding_format="base64").dimensions == 3
    for fields, reason in (
        ({"input": []}, "invalid input"),
        ({"input": [[]]}, r"input\[0\] must not be empty"),
        ({"input": {"a": 1}}, "object into Go struct field EmbedRequest.input of type string"),
        ({"input": "a", "dimensions": 0}, "dimensions must be positive"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format must be float or base64"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            embed(**fields)
