"""Our events, translated into Ollama's answers. Pure: events in, documents out."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias

from qm.store.errors import QmError

from ..chat.request import Delta, Event, Finished, FinishReason, Metrics, ToolCall, joined
from ..runner.wire import TokenLogprob
from .edge import line
from .fields import JsonObject

# The fields that hold a piece of the answer: they differ between chat and generate.
Body: TypeAlias = Callable[[Delta], JsonObject]


class AnswerCutShort(QmError):
    """The events ended without `Finished`: a defect of ours, told rather than hidden."""


def now() -> str:
    """The time in RFC 3339 with nanoseconds, as Go prints it."""
    return timestamp(time.time_ns())


def timestamp(time_ns: int) -> str:
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    fraction = f".{rest_ns:09d}".rstrip("0").rstrip(".")
    return f"{_moment(seconds)}{fraction}Z"


@lru_cache(maxsize=8)
def _moment(seconds: int) -> str:
    """Many tokens come in the same second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def chat_body(delta: Delta) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": delta.content}
    if delta.thinking:
        message["thinking"] = delta.thinking
    if delta.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in delta.tool_calls]
    return {"message": message}


def generate_body(delta: Delta) -> JsonObject:
    body: JsonObject = {"response": delta.content}
    if delta.thinking:
        body["thinking"] = delta.thinking
    if delta.tool_calls:
        body["tool_calls"] = [_tool_call(call) for call in delta.tool_calls]
    return body


def metrics(counted: Metrics) -> JsonObject:
    """In nanoseconds and tokens; what is zero is left out."""
    values = {
        "total_duration": counted.total_ns,
        "load_duration": counted.load_ns,
        "prompt_eval_count": counted.prompt_tokens,
        "prompt_eval_duration": counted.prompt_ns,
        "eval_count": counted.generated_tokens,
        "eval_duration": counted.generate_ns,
        "draft_count": counted.drafted_tokens,
        "draft_accepted_count": counted.accepted_tokens,
    }
    return {name: value for name, value in values.items() if value}


async def stream(model: str, events: AsyncGenerator[Event], body: Body) -> AsyncGenerator[bytes]:
    """One line an event; the last has `done` and the metrics."""
    async with aclosing(events):
        async for event in events:
            match event:
                case Delta() if not event.is_whole:
                    continue  # Ollama's clients get calls whole
                case Delta():
                    yield line(_chunk(model, body(event), done=False) | _logprobs(event.logprobs))
                case Finished():
                    yield line(_final(model, body(Delta()), event))


async def whole(model: str, events: AsyncGenerator[Event], body: Body) -> JsonObject:
    """The whole answer as one document."""
    deltas: list[Delta] = []
    async with aclosing(events):
        async for event in events:
            match event:
                case Delta():
                    deltas.append(event)
                case Finished():
                    total = joined(deltas)
                    return _final(model, body(total), event) | _logprobs(total.logprobs)
    raise AnswerCutShort("the answer ended before it was complete")


def _chunk(model: str, body: JsonObject, *, done: bool) -> JsonObject:
    return {"model": model, "created_at": now(), **body, "done": done}


def _final(model: str, body: JsonObject, finished: Finished) -> JsonObject:
    if finished.rendered:
        debug: JsonObject = {"_debug_info": {"rendered_template": finished.rendered}}
        return _chunk(model, body, done=False) | debug
    document = _chunk(model, body, done=True) | {"done_reason": _reason(finished.reason)}
    if finished.context:
        document["context"] = list(finished.context)
    return document | metrics(finished.metrics)


def _reason(reason: FinishReason) -> str:
    """Ollama knows neither stop sequences nor tool calls as reasons."""
    if reason in (FinishReason.STOP_SEQUENCE, FinishReason.TOOL_CALLS):
        return FinishReason.STOP.value
    return reason.value


def _logprobs(entries: tuple[TokenLogprob, ...]) -> JsonObject:
    return {"logprobs": [_logprob(entry) for entry in entries]} if entries else {}


def _logprob(entry: TokenLogprob) -> JsonObject:
    document: JsonObject = {
        "token": entry.token,
        "logprob": entry.logprob,
        "bytes": list(entry.bytes),
    }
    if entry.top:
        document["top_logprobs"] = [_logprob(other) for other in entry.top]
    return document


def _tool_call(call: ToolCall) -> JsonObject:
    function = {"index": call.index, "name": call.name, "arguments": call.arguments}
    return {"id": call.id, "function": function} if call.id else {"function": function}
