"""Events, and the documents that Ollama's clients read."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

from qm.daemon.chat.request import Delta, Event, Finished, FinishReason, Metrics, Started, ToolCall
from qm.daemon.http.fields import JsonObject
from qm.daemon.http.ollama_answer import chat_body, generate_body, stream, timestamp, whole
from qm.daemon.runner.wire import TokenLogprob

METRICS = Metrics(total_ns=9, load_ns=1, prompt_tokens=2, prompt_ns=3, generated_tokens=4)
DONE = Finished(FinishReason.STOP_SEQUENCE, METRICS)


async def events(*given: Event) -> AsyncGenerator[Event]:
    for event in given:
        yield event


async def lines(*given: Event) -> list[JsonObject]:
    return [json.loads(line) async for line in stream("m", events(*given), chat_body)]


async def test_one_line_an_event_and_metrics_at_the_end() -> None:
    first, second, last = await lines(Started(2), Delta("a"), Delta("b", "t"), DONE)
    assert list(first) == ["model", "created_at", "message", "done"]
    assert first["message"] == {"role": "assistant", "content": "a"}
    assert second["message"]["thinking"] == "t"
    assert (first["done"], last["done"], last["done_reason"]) == (False, True, "stop")
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["total_duration"] == 9
    assert "eval_duration" not in last, "what is zero is left out"


async def test_the_whole_answer_joins_the_pieces() -> None:
    call = ToolCall("f", {"a": 1}, id="call_1")
    logprob = TokenLogprob("a", -0.5, (97,), top=(TokenLogprob("b", -1.5, (98,)),))
    answer = await whole(
        "m",
        events(Delta("a", "t", logprobs=(logprob,)), Delta("b", tool_calls=(call,)), DONE),
        chat_body,
    )
    assert answer["message"] == {
        "role": "assistant",
        "content": "ab",
        "thinking": "t",
        "tool_calls": [
            {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
        ],
    }
    assert answer["logprobs"] == [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": [98]}],
        }
    ]


async def test_loading_has_no_metrics() -> None:
    answer = await whole("m", events(Finished(FinishReason.LOAD)), generate_body)
    assert list(answer) == ["model", "created_at", "response", "done", "done_reason"]
    assert answer["done_reason"] == "load"


async def test_generate_tells_the_context() -> None:
    done = Finished(FinishReason.LENGTH, METRICS, context=(1, 2))
    answer = await whole("m", events(Delta("x"), done), generate_body)
    assert (answer["response"], answer["context"], answer["done_reason"]) == ("x", [1, 2], "length")


async def test_rendering_only_is_shown() -> None:
    done = Finished(FinishReason.STOP, rendered="<|im_start|>")
    answer = await whole("m", events(done), chat_body)
    assert answer["_debug_info"] == {"rendered_template": "<|im_start|>"}
    assert answer["done"] is False


def test_times_are_printed_as_go_does() -> None:
    assert timestamp(1795299884_123456780) == "2026-11-21T22:24:44.12345678Z"
    assert timestamp(1795299884_000000000) == "2026-11-21T22:24:44Z"
