"""Our events, translated into OpenAI's answers. Pure: events in, documents and SSE out."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ..chat.request import (
    Delta,
    Event,
    Finished,
    FinishReason,
    JsonObject,
    ToolCall,
    ToolCallPart,
    joined,
)
from .choices import interleaved
from .content import new_id
from .custom_tools import input_of
from .edge import sse
from .ollama_answer import AnswerCutShort
from .openai_logprobs import TextOffsets, chat_logprobs, text_logprobs
from .tool_parts import CallParts

FINGERPRINT = "fp_qm"
DONE = b"data: [DONE]\n\n"
_REASONS = {
    FinishReason.STOP_SEQUENCE: "stop",
    FinishReason.UNLOAD: "stop",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """How one route prints its choices: a piece of one in a stream, and a whole one."""

    object: str
    chunk_object: str
    id_prefix: str
    piece: Callable[[Delta, Progress, list[ToolCallPart]], JsonObject]
    last: JsonObject  # in place of a piece, beside the reason
    whole: Callable[[Delta, Progress], JsonObject]
    called: str = "tool_calls"  # the reason of an answer that ends with calls
    custom: frozenset[str] = frozenset()  # tools that take a text


Answers: TypeAlias = Sequence[AsyncGenerator[Event]]


@dataclass(slots=True)
class Progress:
    """What has come of one choice."""

    calls: CallParts
    begun: bool = False
    offsets: TextOffsets = field(default_factory=TextOffsets)
    deltas: list[Delta] = field(default_factory=list)
    finished: Finished | None = None

    def reason(self, called: str) -> str:
        assert self.finished is not None
        reason = self.finished.reason
        if reason is FinishReason.TOOL_CALLS or (self.calls and reason is FinishReason.STOP):
            return called
        return _REASONS.get(reason, reason.value)


async def stream(
    model: str, answers: Answers, shape: Shape, *, include_usage: bool, n: int = 1
) -> AsyncGenerator[bytes]:
    """Server-sent events as the SDKs read them, `[DONE]` last; `n` answers share a prompt."""
    head = _head(model, shape.chunk_object, shape)
    progress = [Progress(CallParts(shape.custom)) for _ in answers]
    async with aclosing(interleaved(answers)) as events:
        async for index, event in events:
            choice = progress[index]
            match event:
                case Delta():
                    calls = choice.calls.of(event)
                    if calls or event.content or event.thinking or event.logprobs:
                        piece = shape.piece(event, choice, calls)
                        choice.begun = True
                        yield sse(head | {"choices": [_choice(index, piece, None)]})
                case Finished():
                    choice.finished = event
                    last = shape.last if choice.begun else shape.piece(Delta(), choice, [])
                    yield sse(
                        head | {"choices": [_choice(index, last, choice.reason(shape.called))]}
                    )
    if include_usage:
        yield sse(head | {"choices": [], "usage": usage(progress, n)})
    yield DONE


async def whole(model: str, answers: Answers, shape: Shape, n: int = 1) -> JsonObject:
    """All choices, complete, as one document."""
    progress = [Progress(CallParts(shape.custom)) for _ in answers]
    async with aclosing(interleaved(answers)) as events:
        async for index, event in events:
            choice = progress[index]
            match event:
                case Delta():
                    choice.deltas.append(event)
                    choice.calls.of(event)
                case Finished():
                    choice.finished = event
    if any(choice.finished is None for choice in progress):
        raise AnswerCutShort("the answer ended before it was complete")
    choices = [
        _choice(index, shape.whole(joined(choice.deltas), choice), choice.reason(shape.called))
        for index, choice in enumerate(progress)
    ]
    return _head(model, shape.object, shape) | {"choices": choices, "usage": usage(progress, n)}


def usage(progress: Sequence[Progress], n: int) -> JsonObject:
    """The tokens of all choices; those of a prompt that `n` of them share count once."""
    done = [each.finished.metrics for each in progress if each.finished]
    shared = [done[at : at + n] for at in range(0, len(done), n)]
    prompt = sum(max(each.prompt_tokens for each in group) for group in shared)
    cached = sum(min(each.cached_tokens for each in group) for group in shared)
    counts = usage_of(prompt, sum(metrics.generated_tokens for metrics in done))
    counts["prompt_tokens_details"] = {"cached_tokens": cached}
    reasoning = sum(metrics.reasoning_tokens for metrics in done)
    if reasoning:
        counts["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return counts


def usage_of(prompt_tokens: int, generated_tokens: int) -> JsonObject:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": generated_tokens,
        "total_tokens": prompt_tokens + generated_tokens,
    }


def _head(model: str, kind: str, shape: Shape) -> JsonObject:
    return {
        "id": new_id(shape.id_prefix),
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }


def _choice(index: int, piece: JsonObject, reason: str | None) -> JsonObject:
    return {"index": index, **piece, "finish_reason": reason}


# chat ---------------------------------------------------------------------------------------


def _chat_piece(delta: Delta, choice: Progress, calls: list[ToolCallPart]) -> JsonObject:
    message: JsonObject = {} if choice.begun else {"role": "assistant"}
    if delta.content or not (calls and choice.begun):  # a helper takes "" for more of the text
        message["content"] = delta.content
    message |= _reasoning(delta)
    if calls:
        message["tool_calls"] = [_call_part(part, choice.calls) for part in calls]
    return {"delta": message} | chat_logprobs(delta.logprobs)


def _chat_whole(delta: Delta, choice: Progress) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": delta.content} | _reasoning(delta)
    if delta.tool_calls:
        message["tool_calls"] = [_call(call, choice.calls) for call in delta.tool_calls]
        message["content"] = delta.content or None
    return {"message": message} | chat_logprobs(delta.logprobs)


def _reasoning(delta: Delta) -> JsonObject:
    """Under both names that clients look for."""
    if not delta.thinking:
        return {}
    return {"reasoning": delta.thinking, "reasoning_content": delta.thinking}


def _call_part(part: ToolCallPart, calls: CallParts) -> JsonObject:
    kind, given = ("custom", "input") if calls.is_custom(part.index) else ("function", "arguments")
    if not part.id:
        return {"index": part.index, kind: {given: part.arguments}}
    called = {"name": part.name, given: part.arguments}
    return {"id": part.id, "index": part.index, "type": kind, kind: called}


def _call(call: ToolCall, calls: CallParts) -> JsonObject:
    told: JsonObject = {"id": call.id or new_id("call_")}
    if calls.is_custom(call.index):
        custom = {"name": call.name, "input": input_of(call.arguments)}
        return told | {"type": "custom", "custom": custom}
    function = {"name": call.name, "arguments": call.arguments_json()}
    return told | {"type": "function", "function": function}


CHAT = Shape(
    object="chat.completion",
    chunk_object="chat.completion.chunk",
    id_prefix="chatcmpl-",
    piece=_chat_piece,
    last={"delta": {}},
    whole=_chat_whole,
)


def _function_piece(delta: Delta, choice: Progress, calls: list[ToolCallPart]) -> JsonObject:
    piece = _chat_piece(delta, choice, [])
    for part in calls:
        named = {} if not part.name else {"name": part.name}
        piece["delta"]["function_call"] = {**named, "arguments": part.arguments}
    return piece


def _function_whole(delta: Delta, choice: Progress) -> JsonObject:
    whole = _chat_whole(delta, choice)
    for call in whole["message"].pop("tool_calls", ()):
        whole["message"]["function_call"] = call["function"]
    return whole


# For clients from before there were tools; their answers end with the first call.
FUNCTIONS = replace(CHAT, piece=_function_piece, whole=_function_whole, called="function_call")


# completions --------------------------------------------------------------------------------


def _text_piece(delta: Delta, choice: Progress, _calls: list[ToolCallPart]) -> JsonObject:
    return _text(delta, choice.offsets)


def _text_whole(delta: Delta, _choice: Progress) -> JsonObject:
    return _text(delta, TextOffsets())


def _text(delta: Delta, offsets: TextOffsets) -> JsonObject:
    choice: JsonObject = {"text": delta.thinking + delta.content}
    return choice | text_logprobs(delta.logprobs, offsets)


TEXT = Shape(
    object="text_completion",
    chunk_object="text_completion",
    id_prefix="cmpl-",
    piece=_text_piece,
    last={"text": ""},
    whole=_text_whole,
)
