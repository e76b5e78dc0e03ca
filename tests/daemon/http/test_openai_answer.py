"""OpenAI's answers: our events, in documents and streams, wherever they are cut."""

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
    Metrics,
    Started,
    ToolCall,
    ToolCallPart,
)
from qm.daemon.http.openai_answer import CHAT, FUNCTIONS, TEXT, stream, whole
from qm.daemon.runner.wire import TokenLogprob
from qm.store.errors import InvalidRequest

METRICS = Metrics(prompt_tokens=5, cached_tokens=2, generated_tokens=3)
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
    assert "completion_tokens_details" not in plain["usage"]


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
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
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
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert ["content" in delta for delta in deltas] == [True, False, False, False]
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
    """Two prompts with two answers each; cached is what none of a prompt's answers evaluated."""
    metrics = [
        Metrics(prompt_tokens=n, cached_tokens=cached, generated_tokens=1)
        for n, cached in ((3, 2), (3, 1), (4, 0), (4, 3))
    ]
    answers = [events(Finished(FinishReason.STOP, each)) for each in metrics]
    usage = (await whole("m", answers, TEXT, 2))["usage"]
    assert usage.pop("prompt_tokens_details") == {"cached_tokens": 1}
    assert usage == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}


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
