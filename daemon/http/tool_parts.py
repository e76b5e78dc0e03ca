"""The calls of an answer as they are written, for dialects that stream their arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from ..chat.request import Delta, ToolCall, ToolCallPart
from .content import new_id
from .custom_tools import InputReader


class CallParts:
    """Tells the pieces of calls in each delta; a call that comes whole is one piece.

    Of calls to the tools in `custom` the pieces are those of the input, which is a plain text.
    """

    def __init__(self, custom: Collection[str] = ()) -> None:
        self._custom = custom
        self._begun: set[int] = set()
        self._inputs: dict[int, InputReader] = {}

    def __len__(self) -> int:
        """How many calls there were."""
        return len(self._begun)

    def is_custom(self, index: int) -> bool:
        """Whether this call, which has begun, is one to a custom tool."""
        return index in self._inputs

    def of(self, delta: Delta) -> list[ToolCallPart]:
        """What this delta adds, one piece a call at most; its first has name and id.

        Two pieces of one call in the first chunk of a stream confuse OpenAI's own client.
        """
        parts = [self._named(part) for part in _merged(delta.tool_parts)]
        whole = [call for call in delta.tool_calls if call.index not in self._begun]
        parts += [self._whole(call) for call in whole]
        return list(self._inputs_of(parts, delta.tool_calls)) if self._inputs else parts

    def _named(self, part: ToolCallPart) -> ToolCallPart:
        if part.index in self._begun:
            return ToolCallPart(part.index, "", part.arguments)
        self._begun.add(part.index)
        if part.name in self._custom:
            self._inputs[part.index] = InputReader()
        return ToolCallPart(part.index, part.name, part.arguments, part.id or new_id("call_"))

    def _whole(self, call: ToolCall) -> ToolCallPart:
        return self._named(ToolCallPart(call.index, call.name, call.arguments_json(), call.id))

    def _inputs_of(
        self, parts: Iterable[ToolCallPart], calls: Iterable[ToolCall]
    ) -> Iterator[ToolCallPart]:
        """The same pieces, with texts in place of JSON where tools are custom."""
        complete = {call.index: call.arguments for call in calls if call.index in self._inputs}
        told = {part.index: part for part in parts}
        for index in sorted(told.keys() | complete.keys()):
            part = told.get(index, ToolCallPart(index, "", ""))
            if reader := self._inputs.get(index):
                text = reader.feed(part.arguments)
                text += reader.rest(complete[index]) if index in complete else ""
                part = replace(part, arguments=text)
            if part.id or part.arguments:
                yield part


def _merged(parts: Iterable[ToolCallPart]) -> list[ToolCallPart]:
    """The pieces of each call as one."""
    merged: dict[int, ToolCallPart] = {}
    for part in parts:
        before = merged.get(part.index)
        text = before.arguments + part.arguments if before else ""
        merged[part.index] = replace(before, arguments=text) if before else part
    return list(merged.values())
