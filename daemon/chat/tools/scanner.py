"""Follows a call's JSON while it is written, so that its arguments can be sent on at once."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from ..request import ToolCall, ToolCallPart
from .sure_json import SureJson

_HEAD: Final = re.compile(
    r'[\s,;\[\]}]*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*"([^"\\]+)"\s*,\s*'
    r'"(?:arguments|parameters)"\s*:\s*(?=\{)'
    r"|\s*(?:\[TOOL_CALLS\])?\s*([\w.\-]+)\s*(?:\[CALL_ID\]\s*[\w\-]+\s*)?\[ARGS\]\s*(?=\{)"
)


class ArgumentScanner:
    """Feed it the body of a block; it gives parts of calls to the tools in `names`.

    It looks for objects that begin with name and arguments, in that order, and for Mistral's names
    before `[ARGS]`. Anything else it leaves to the reader of the whole block.
    """

    def __init__(self, names: Collection[str], first_index: int) -> None:
        self._names = names
        self._text = ""
        self._at = 0
        self._first_index = self._next_index = first_index
        self._arguments: SureJson | None = None  # of the call that we are in
        self._lost = False

    @property
    def begun(self) -> int:
        """Of how many calls it gave a part."""
        return self._next_index - self._first_index

    def feed(self, text: str) -> list[ToolCallPart]:
        """The parts that `text` adds."""
        self._text += text
        parts: list[ToolCallPart] = []
        while not self._lost:
            if self._arguments is not None and not self._advance(self._arguments, parts):
                break
            head = _HEAD.match(self._text, self._at)
            if head is None:
                break
            name = head[1] or head[2]
            if name not in self._names:
                self._lost = True
                break
            parts.append(ToolCallPart(self._next_index, name, ""))
            self._next_index += 1
            self._at = head.end()
            self._arguments = SureJson()
        return parts

    def late(self, call: ToolCall) -> ToolCallPart | None:
        """What of a whole call was not among the parts; None for nothing."""
        if call.index >= self._next_index:
            return ToolCallPart(call.index, call.name, call.arguments_json(), call.id)
        if self._arguments is None or call.index < self._next_index - 1:
            return None
        rest = self._arguments.rest(call)
        return ToolCallPart(call.index, "", rest) if rest else None

    def _advance(self, arguments: SureJson, parts: list[ToolCallPart]) -> bool:
        """Goes on with a call's arguments; whether they are complete."""
        told = len(arguments.told)
        self._at = arguments.feed(self._text, self._at)
        if fragment := arguments.told[told:]:
            parts.append(ToolCallPart(self._next_index - 1, "", fragment))
        self._lost = arguments.broken
        return arguments.done
