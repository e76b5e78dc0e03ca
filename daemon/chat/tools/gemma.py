"""Gemma's own notation of calls: `call:name{key:value,other:[1,{inner:true}]}`.

Texts stand between `<escape>` (FunctionGemma) or `<|"|>` (Gemma 4), or in JSON's quotes.
"""

from __future__ import annotations

import json
import re
from typing import Final

from .calls import Call, Malformed, Tools, arguments, typed

_HEAD: Final = re.compile(r"\s*call:([\w.\-]+)\s*(?=\{)")
_KEY: Final = re.compile(r"\s*([\w.\-$]+)\s*:")
_BARE: Final = re.compile(r"[^,\[\]{}]+")
_QUOTES: Final = ("<escape>", '<|"|>')
_MOST_NESTED: Final = 100


def read_gemma(text: str, tools: Tools) -> list[Call]:
    """The calls in a block, one behind the other. Raises Malformed."""
    calls: list[Call] = []
    at = 0
    while head := _HEAD.match(text, at):
        reading = _Reading(text, head.end(), tools, head[1])
        calls.append(Call(head[1], arguments(reading.mapping(0))))
        at = reading.at
    if not calls or text[at:].strip():
        raise Malformed(text)
    return calls


class _Reading:
    """Where in the text we are, reading the arguments of one call."""

    def __init__(self, text: str, at: int, tools: Tools, tool: str) -> None:
        self._text = text
        self.at = at
        self._tools = tools
        self._tool = tool

    def mapping(self, depth: int) -> dict[str, object]:
        """From an opening brace to behind the closing one."""
        self._take("{")
        found: dict[str, object] = {}
        while not self._sees("}"):
            key = self._key()
            schema = self._tools.parameter(self._tool, key) if not depth else {}
            found[key] = self._value(schema, depth + 1)
            if not self._sees("}"):
                self._take(",")
        self._take("}")
        return found

    def _list(self, depth: int) -> list[object]:
        self._take("[")
        found: list[object] = []
        while not self._sees("]"):
            found.append(self._value({}, depth + 1))
            if not self._sees("]"):
                self._take(",")
        self._take("]")
        return found

    def _key(self) -> str:
        if (quoted := self._quoted()) is not None:
            self._take(":")
            return quoted
        key = _KEY.match(self._text, self.at)
        if key is None:
            raise Malformed(self._text)
        self.at = key.end()
        return key[1]

    def _value(self, schema: dict[str, object], depth: int) -> object:
        if depth > _MOST_NESTED:
            raise Malformed(self._text)
        if (quoted := self._quoted()) is not None:
            return quoted
        if self._sees("{"):
            return self.mapping(depth)
        if self._sees("["):
            return self._list(depth)
        bare = _BARE.match(self._text, self.at)
        if bare is None:
            raise Malformed(self._text)
        self.at = bare.end()
        return typed(bare[0].strip(), schema)

    def _quoted(self) -> str | None:
        """The text that begins here in any kind of quotes; None when none begins."""
        self._skip()
        if self._sees('"'):
            try:
                text, self.at = json.JSONDecoder().raw_decode(self._text, self.at)
            except ValueError as error:
                raise Malformed(self._text) from error
            return str(text)
        for quote in _QUOTES:
            if self._text.startswith(quote, self.at):
                start = self.at + len(quote)
                end = self._text.find(quote, start)
                if end < 0:
                    raise Malformed(self._text)
                self.at = end + len(quote)
                return self._text[start:end]
        return None

    def _sees(self, mark: str) -> bool:
        self._skip()
        return self._text.startswith(mark, self.at)

    def _take(self, mark: str) -> None:
        if not self._sees(mark):
            raise Malformed(self._text)
        self.at += len(mark)

    def _skip(self) -> None:
        while self.at < len(self._text) and self._text[self.at] in " \t\r\n":
            self.at += 1
