"""Our events, translated into Anthropic's answers. Pure: events in, documents and SSE out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from ..chat.request import (
    Delta,
    Event,
    Finished,
    FinishReason,
    JsonObject,
    Request,
    Started,
    ToolCallPart,
    joined,
)
from .content import new_id
from .edge import sse
from .ollama_answer import AnswerCutShort
from .tool_parts import CallParts

_REASONS = {
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
}


async def whole(request: Request, events: AsyncGenerator[Event]) -> JsonObject:
    """The whole message as one document."""
    deltas: list[Delta] = []
    async with aclosing(events):
        async for event in events:
            match event:
                case Delta():
                    deltas.append(event)
                case Finished():
                    content = list(_content(joined(deltas)))
                    return _message(request.model, content) | _end(request, event, content)
    raise AnswerCutShort("the answer ended before it was complete")


async def stream(request: Request, events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Named events in the order that the SDKs read: message, its blocks one by one, the end."""
    blocks = _Blocks()
    async with aclosing(events):
        async for event in events:
            match event:
                case Started():
                    yield _start(request.model, event)
                case Delta():
                    for piece in blocks.grow(event):
                        yield piece
                case Finished():
                    for piece in blocks.close():
                        yield piece
                    for piece in _last(request, event, blocks.kinds):
                        yield piece


def stream_error(body: object) -> bytes:
    """How a stream ends that fails."""
    return sse(body, "error")


class _Blocks:
    """The content blocks of a stream: at most one is open, and it grows."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self._open = ""
        self._calls = CallParts()

    def grow(self, delta: Delta) -> Iterator[bytes]:
        if delta.thinking:
            yield from self._text("thinking", delta.thinking)
        if delta.content:
            yield from self._text("text", delta.content)
        for part in self._calls.of(delta):
            yield from self._call(part)

    def close(self) -> Iterator[bytes]:
        if self._open:
            self._open = ""
            yield _event("content_block_stop", index=self._index)

    @property
    def _index(self) -> int:
        return len(self.kinds) - 1

    def _text(self, kind: str, text: str) -> Iterator[bytes]:
        if self._open != kind:
            yield from self._begin(kind, _block(kind, ""))
        yield self._delta({"type": f"{kind}_delta", kind: text})

    def _call(self, part: ToolCallPart) -> Iterator[bytes]:
        if part.id:
            block = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
            yield from self._begin("tool_use", block)
        yield self._delta({"type": "input_json_delta", "partial_json": part.arguments})

    def _begin(self, kind: str, block: JsonObject) -> Iterator[bytes]:
        yield from self.close()
        self._open = kind
        self.kinds.append(kind)
        yield _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: JsonObject) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)


def _event(kind: str, **fields: object) -> bytes:
    return sse({"type": kind, **fields}, kind)


def _start(model: str, started: Started) -> bytes:
    usage = {"input_tokens": started.prompt_tokens, "output_tokens": 0}
    return _event("message_start", message=_message(model, []) | {"usage": usage})


def _last(request: Request, finished: Finished, kinds: list[str]) -> Iterator[bytes]:
    end = _end(request, finished, [{"type": kind} for kind in kinds])
    usage = end.pop("usage")
    yield _event("message_delta", delta=end, usage=usage)
    yield _event("message_stop")


def _message(model: str, content: list[JsonObject]) -> JsonObject:
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
    }


def _content(answer: Delta) -> Iterator[JsonObject]:
    if answer.thinking:
        yield _block("thinking", answer.thinking)
    if answer.content:
        yield _block("text", answer.content)
    for call in answer.tool_calls:
        call_id = call.id or new_id("call_")
        yield {"type": "tool_use", "id": call_id, "name": call.name, "input": call.arguments}


def _block(kind: str, text: str) -> JsonObject:
    """Reasoning has a signature at Anthropic, and clients that check their input miss it."""
    block: JsonObject = {"type": kind, kind: text}
    return block | {"signature": ""} if kind == "thinking" else block


def _end(request: Request, finished: Finished, content: list[JsonObject]) -> JsonObject:
    """Why it ended, and what it cost. A stop text of the model's own is a turn's usual end."""
    reason = _REASONS.get(finished.reason, "end_turn")
    if reason == "end_turn" and any(block["type"] == "tool_use" for block in content):
        reason = "tool_use"
    asked = finished.stop_sequence in (request.options.stop or ())
    metrics = finished.metrics
    usage = {"input_tokens": metrics.prompt_tokens, "output_tokens": metrics.generated_tokens}
    if finished.reason is FinishReason.STOP_SEQUENCE and asked:
        stop = {"stop_reason": "stop_sequence", "stop_sequence": finished.stop_sequence}
        return stop | {"usage": usage}
    return {"stop_reason": reason, "usage": usage}
