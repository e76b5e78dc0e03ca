"""From a runner's frames to the events of an answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from ..runner.process import GenerateEvent
from ..runner.wire import Chunk, Done, Evaluated
from .output import OutputParser
from .request import Delta, Event, Finished, FinishReason, Metrics


@dataclass(slots=True)
class AnswerReader:
    """Gives the events of each frame; after `Finished` nothing more of the runner is wanted.

    `one_call` ends the answer with its first tool call. `parser` is None for an answer that is
    nothing but text.
    """

    parser: OutputParser | None
    counted: Evaluated
    started_ns: int
    load_ns: int
    one_call: bool = False
    _evaluated_ns: int = 0  # when the first token came
    _tokens: int = 0
    _reasoning_tokens: int = 0

    def read(self, frame: GenerateEvent) -> list[Event]:
        match frame:
            case Chunk():
                return self._grow(frame)
            case Done():
                rest = self.parser.finish() if self.parser else Delta()
                return [*_shown(self._wanted(rest)), self._finished(frame)]
            case Evaluated():
                raise AssertionError("a prompt is counted once")

    def _grow(self, chunk: Chunk) -> list[Event]:
        if chunk.n_tokens:
            self._evaluated_ns = self._evaluated_ns or time.monotonic_ns()
        self._tokens += chunk.n_tokens
        if self.parser is None:
            return _shown(Delta(chunk.text, logprobs=chunk.logprobs))
        reasons = self._reasons()
        delta = self.parser.feed(chunk.text)
        if reasons or self._reasons():  # the marks around it are counted, too
            self._reasoning_tokens += chunk.n_tokens
        delta = self._wanted(delta)
        events = _shown(replace(delta, logprobs=chunk.logprobs) if chunk.logprobs else delta)
        if self.one_call and self._called():
            events.append(Finished(FinishReason.TOOL_CALLS, self._so_far()))
        return events

    def _wanted(self, delta: Delta) -> Delta:
        """All of it, or without any call but the first that can be read."""
        if not self.one_call or self.parser is None:
            return delta
        first = self.parser.lost
        calls = tuple(call for call in delta.tool_calls if call.index == first)
        parts = tuple(part for part in delta.tool_parts if part.index == first)
        return replace(delta, tool_calls=calls, tool_parts=parts)

    def _reasons(self) -> bool:
        return self.parser is not None and self.parser.reasons

    def _called(self) -> bool:
        return self.parser is not None and self.parser.called

    def _so_far(self) -> Metrics:
        """What an answer cost that we end ourselves."""
        now = time.monotonic_ns()
        return Metrics(
            total_ns=now - self.started_ns,
            load_ns=self.load_ns,
            prompt_tokens=self.counted.prompt_tokens,
            cached_tokens=self.counted.cached_tokens,
            prompt_ns=self._evaluated_ns - self.started_ns - self.load_ns,
            generated_tokens=self._tokens,
            generate_ns=now - self._evaluated_ns,
            reasoning_tokens=self._reasoning_tokens,
        )

    def _finished(self, done: Done) -> Finished:
        metrics = replace(
            self._so_far(),
            prompt_tokens=done.prompt_tokens,
            cached_tokens=done.cached_tokens,
            prompt_ns=done.prompt_ns,
            generated_tokens=done.generated_tokens,
            generate_ns=done.generate_ns,
            drafted_tokens=done.drafted_tokens,
            accepted_tokens=done.accepted_tokens,
        )
        reason = FinishReason(done.reason)
        if self._called() and reason is not FinishReason.LENGTH:
            reason = FinishReason.TOOL_CALLS
        return Finished(reason, metrics, done.stop_sequence, done.context)


def _shown(delta: Delta) -> list[Event]:
    return [delta] if delta.is_whole or delta.tool_parts else []
