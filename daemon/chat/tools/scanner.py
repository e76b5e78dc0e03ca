"""Follows a call's JSON while it is written, so that its arguments can be sent on at once."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Final

from ..request import ToolCallPart

_HEAD: Final = re.compile(
    r'[\s,;\[\]}]*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*"([^"\\]+)"\s*,\s*'
    r'"(?:arguments|parameters)"\s*:\s*(?=\{)'
    r"|\s*(?:\[TOOL_CALLS\])?\s*([\w.\-]+)\s*(?:\[CALL_ID\]\s*[\w\-]+\s*)?\[ARGS\]\s*(?=\{)"
)
_ESCAPED: Final = {chr(code): json.dumps(chr(code))[1:-1] for code in range(0x20)}


class ArgumentScanner:
    """Feed it the body of a block; it gives parts of calls to the tools in `names`.

    It looks for objects that begin with name and arguments, in that order, and for Mistral's names
    before `[ARGS]`. Anything else it leaves
    to the reader of the whole block.
    """

    def __init__(self, names: Collection[str], first_index: int) -> None:
        self._names = names
        self._text = ""
        self._at = 0
        self._depth = 0
        self._in_string = self._escaped = False
        self._next_index = first_index
        self._lost = False

    def feed(self, text: str) -> list[ToolCallPart]:
        """The parts that `text` adds."""
        self._text += text
        parts: list[ToolCallPart] = []
        while not self._lost:
            if self._depth:
                fragment = self._advance()
                if fragment:
                    parts.append(ToolCallPart(self._next_index - 1, "", fragment))
                if self._depth:
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
            parts.append(ToolCallPart(self._next_index - 1, "", "{"))
            self._at = head.end() + 1
            self._depth = 1
        return parts

    @property
    def started(self) -> int:
        """How many calls have begun, counted from the first index on."""
        return self._next_index

    def _advance(self) -> str:
        """Goes on to the end of the arguments or of the text; what came, without white space.

        White space in a string stays, line breaks as JSON has them. `ToolCall.arguments_json`
        has none either.
        """
        written: list[str] = []
        while self._at < len(self._text) and self._depth:
            character = self._text[self._at]
            self._at += 1
            if self._in_string or character not in " \t\r\n":
                written.append(_ESCAPED.get(character, character))
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
        return "".join(written)
