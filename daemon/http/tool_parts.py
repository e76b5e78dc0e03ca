"""The calls of an answer as they are written, for dialects that stream their arguments."""

from __future__ import annotations

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
        """What this delta adds, the first piece of each call with name and id."""
        parts = [self._named(part) for part in delta.tool_parts]
        whole = [call for call in delta.tool_calls if call.index not in self._begun]
        return parts + [self._whole(call) for call in whole]

    def _named(self, part: ToolCallPart) -> ToolCallPart:
        if part.index in self._begun:
            return ToolCallPart(part.index, "", part.arguments)
        self._begun.add(part.index)
        return ToolCallPart(part.index, part.name, part.arguments, part.id or new_id("call_"))

    def _whole(self, call: ToolCall) -> ToolCallPart:
        return self._named(ToolCallPart(call.index, call.name, call.arguments_json(), call.id))
