"""The calls of an answer as they are written, for dialects that stream their arguments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..chat.request import Delta, ToolCall, ToolCallPart
from .content import new_id


class CallParts:
    """Tells the pieces of calls in each delta; a call that comes whole is one piece."""

    def __init__(self) -> None:
        self._begun: set[int] = set()

    def __len__(self) -> int:
        """How many calls there were."""
        return len(self._begun)

    def of(self, delta: Delta) -> list[ToolCallPart]:
        """What this delta adds, one piece a call at most; its first has name and id.

        Two pieces of one call in the first chunk of a stream confuse OpenAI's own client.
        """
        parts = [self._named(part) for part in _merged(delta.tool_parts)]
        whole = [call for call in delta.tool_calls if call.index not in self._begun]
        return parts + [self._whole(call) for call in whole]

    def _named(self, part: ToolCallPart) -> ToolCallPart:
        if part.index in self._begun:
            return ToolCallPart(part.index, "", part.arguments)
        self._begun.add(part.index)
        return ToolCallPart(part.index, part.name, part.arguments, part.id or new_id("call_"))

    def _whole(self, call: ToolCall) -> ToolCallPart:
        return self._named(ToolCallPart(call.index, call.name, call.arguments_json(), call.id))


def _merged(parts: Iterable[ToolCallPart]) -> list[ToolCallPart]:
    """The pieces of each call as one."""
    merged: dict[int, ToolCallPart] = {}
    for part in parts:
        before = merged.get(part.index)
        text = before.arguments + part.arguments if before else ""
        merged[part.index] = replace(before, arguments=text) if before else part
    return list(merged.values())
