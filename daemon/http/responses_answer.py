"""Our events, translated into OpenAI's response objects and their stream. Pure."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Final, NamedTuple

import msgspec
from qm.store.errors import QmError

from ..chat.request import (
    Delta,
    Event,
    Finished,
    FinishReason,
    JsonObject,
    Message,
    Metrics,
    Role,
    Started,
    ToolCall,
    ToolCallPart,
)
from .content import new_id
from .edge import sse
from .ollama_answer import AnswerCutShort
from .responses_request import Asked
from .tool_parts import CallParts

_TOLD_OPTIONS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
Keep = Callable[[JsonObject, Message], None]  # a complete response, and the turn it adds


class _CallItem(NamedTuple):
    """How a call is told: its type, the prefix of its id, where what it is given stands."""

    kind: str
    id_prefix: str
    given: str
    event: str  # what its pieces' events begin with


_FUNCTION_CALL: Final = _CallItem(
    "function_call", "fc_", "arguments", "response.function_call_arguments"
)
_CUSTOM_CALL: Final = _CallItem(
    "custom_tool_call", "ctc_", "input", "response.custom_tool_call_input"
)


def opened(asked: Asked) -> JsonObject:
    """A response before its answer begins."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "queued" if asked.background else "in_progress",
        "incomplete_details": None,
        "model": asked.request.model,
        "output": [],
        "error": None,
        "usage": None,
        **asked.echo,
    }


async def whole(
    asked: Asked, document: JsonObject, events: AsyncGenerator[Event], keep: Keep
) -> JsonObject:
    """The whole response: `document`, as `opened` gave it, filled in."""
    response = _Response(asked, document)
    async with aclosing(events):
        async for event in events:
            match event:
                case Started():
                    list(response.begin(event))
                case Delta():
                    list(response.grow(event))
                case Finished():
                    list(response.finish(event))
                    keep(response.document, response.turn())
                    return response.document
    raise AnswerCutShort("the answer ended before it was complete")


async def stream(asked: Asked, events: AsyncGenerator[Event], keep: Keep) -> AsyncGenerator[bytes]:
    """Named and numbered events: the response, its items one by one, the response again."""
    response = _Response(asked, opened(asked))
    try:
        async with aclosing(events):
            async for event in events:
                match event:
                    case Started():
                        for piece in response.begin(event):
                            yield piece
                    case Delta():
                        for piece in response.grow(event):
                            yield piece
                    case Finished():
                        for piece in response.finish(event):
                            yield piece
                        keep(response.document, response.turn())
    except QmError as error:
        if response.begun:
            yield response.fail(error)
        raise


class _Response:
    """One response as it grows: at most one item is open, always the last."""

    def __init__(self, asked: Asked, document: JsonObject) -> None:
        self.begun = False
        self._namespaces = asked.namespaces
        self._items: list[JsonObject] = []
        self._open = ""
        self._sequence = 0
        self._calls = CallParts(asked.custom)
        self._whole_calls: list[ToolCall] = []
        self.document = document

    def begin(self, started: Started) -> Iterator[bytes]:
        self.begun = True
        in_force = msgspec.structs.asdict(started.options)
        self.document |= {name: in_force[name] for name in _TOLD_OPTIONS}
        self.document["status"] = "in_progress"
        yield self._event("response.created", response=self.document)
        yield self._event("response.in_progress", response=self.document)

    def grow(self, delta: Delta) -> Iterator[bytes]:
        if delta.thinking:
            yield from self._reason(delta.thinking)
        if delta.content:
            yield from self._say(delta)
        for part in self._calls.of(delta):
            yield from self._call(part)
        self._whole_calls += delta.tool_calls

    def finish(self, finished: Finished) -> Iterator[bytes]:
        yield from self._close()
        cut = finished.reason is FinishReason.LENGTH
        self.document |= {
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "completed_at": None if cut else int(time.time()),
            "output": self._items,
            "usage": _usage(finished.metrics),
        }
        kind = "response.incomplete" if cut else "response.completed"
        yield self._event(kind, response=self.document)

    def fail(self, error: QmError) -> bytes:
        self.document |= {
            "status": "failed",
            "error": {"code": "server_error", "message": error.message},
            "output": self._items,
        }
        return self._event("response.failed", response=self.document)

    def turn(self) -> Message:
        """The answer as a turn of the conversation that may follow."""
        text = "".join(part["text"] for item in self._items for part in item.get("content", ()))
        return Message(Role.ASSISTANT, text, tool_calls=tuple(self._whole_calls))

    def _reason(self, text: str) -> Iterator[bytes]:
        if self._open != "reasoning":
            item: JsonObject = {"id": new_id("rs_"), "type": "reasoning", "summary": []}
            yield from self._add("reasoning", item)
            part = {"type": "summary_text", "text": ""}
            yield self._part("response.reasoning_summary_part.added", part=part)
            item["summary"].append(part)
        self._items[-1]["summary"][0]["text"] += text
        yield self._part("response.reasoning_summary_text.delta", delta=text)

    def _say(self, delta: Delta) -> Iterator[bytes]:
        if self._open != "message":
            item: JsonObject = {
                "id": new_id("msg_"),
                "type": "message",
                "status": "in_progress",
                "role": "assistant",
                "content": [],
            }
            yield from self._add("message", item)
            part: JsonObject = {
                "type": "output_text",
                "text": "",
                "annotations": [],
                "logprobs": [],
            }
            yield self._part("response.content_part.added", part=part)
            item["content"].append(part)
        part = self._items[-1]["content"][0]
        part["text"] += delta.content
        logprobs = [
            {"token": one.token, "logprob": one.logprob, "bytes": list(one.bytes)}
            | {"top_logprobs": [{"token": t.token, "logprob": t.logprob} for t in one.top]}
            for one in delta.logprobs
        ]
        part["logprobs"] += logprobs
        yield self._part("response.output_text.delta", delta=delta.content, logprobs=logprobs)

    def _call(self, part: ToolCallPart) -> Iterator[bytes]:
        custom = self._calls.is_custom(part.index)
        kind, prefix, given, event = _CUSTOM_CALL if custom else _FUNCTION_CALL
        if part.id:
            namespace, name = self._namespaces.get(part.name, ("", part.name))
            item: JsonObject = {
                "id": new_id(prefix),
                "type": kind,
                "status": "in_progress",
                "call_id": part.id,
                **({"namespace": namespace} if namespace else {}),
                "name": name,
                given: "",
            }
            yield from self._add(kind, item)
        self._items[-1][given] += part.arguments
        yield self._part(f"{event}.delta", delta=part.arguments)

    def _add(self, kind: str, item: JsonObject) -> Iterator[bytes]:
        yield from self._close()
        self._open = kind
        self._items.append(item)
        yield self._item_event("response.output_item.added")

    def _close(self) -> Iterator[bytes]:
        """Ends the open item: its text whole, its part, itself."""
        if not self._open:
            return
        item = self._items[-1]
        match self._open:
            case "reasoning":
                part = item["summary"][0]
                yield self._part("response.reasoning_summary_text.done", text=part["text"])
                yield self._part("response.reasoning_summary_part.done", part=part)
            case "message":
                part = item["content"][0]
                done = {"text": part["text"], "logprobs": part["logprobs"]}
                yield self._part("response.output_text.done", **done)
                yield self._part("response.content_part.done", part=part)
            case "custom_tool_call":
                yield self._part(f"{_CUSTOM_CALL.event}.done", input=item["input"])
            case _:
                told = {"name": item["name"], "arguments": item["arguments"]}
                yield self._part(f"{_FUNCTION_CALL.event}.done", **told)
        if "status" in item:
            item["status"] = "completed"
        self._open = ""
        yield self._item_event("response.output_item.done")

    def _part(self, kind: str, **fields: object) -> bytes:
        place: JsonObject = {"item_id": self._items[-1]["id"], "output_index": self._index}
        if self._open == "reasoning":
            place["summary_index"] = 0
        elif self._open == "message":
            place["content_index"] = 0
        return self._event(kind, **place, **fields)

    def _item_event(self, kind: str) -> bytes:
        return self._event(kind, output_index=self._index, item=self._items[-1])

    @property
    def _index(self) -> int:
        return len(self._items) - 1

    def _event(self, kind: str, **fields: object) -> bytes:
        number, self._sequence = self._sequence, self._sequence + 1
        return sse({"type": kind, "sequence_number": number, **fields}, kind)


def _usage(metrics: Metrics) -> JsonObject:
    return {
        "input_tokens": metrics.prompt_tokens,
        "output_tokens": metrics.generated_tokens,
        "total_tokens": metrics.prompt_tokens + metrics.generated_tokens,
        "input_tokens_details": {"cached_tokens": metrics.cached_tokens},
        "output_tokens_details": {"reasoning_tokens": metrics.reasoning_tokens},
    }
