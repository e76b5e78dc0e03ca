"""A call's arguments while they are written, as far as they are surely JSON.

A client that gathers the pieces reads them as JSON at the end. Models also write what only Python
reads, such as a comma behind the last value; a reader of the whole call understands that. So pieces
stop before the first thing that is no JSON, and what is missing then comes with the whole call.
"""

from __future__ import annotations

import json
import re
from typing import Final

from ..request import ToolCall

_WORD: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")
_WORD_PART: Final = re.compile(r"[\w.+-]")
_ESCAPE: Final = re.compile(r'["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}')  # no half of a pair
_CONTROL: Final = {chr(code): json.dumps(chr(code))[1:-1] for code in range(0x20)}
_CLOSING: Final = {"{": "}", "[": "]"}


class SureJson:
    """Feed it an object; it tells the same without white space outside of strings."""

    def __init__(self) -> None:
        self.told = ""
        self.done = self.broken = False
        self._open: list[str] = []  # what closes the objects and lists that we are in
        self._in_string = False
        self._escape = self._word = ""
        self._held = ""  # a quote or a comma, until what follows shows that it was one
        self._has_value = False  # whether a value or a key stands before us
        self._just_opened = False

    def feed(self, text: str, at: int = 0) -> int:
        """Adds to `told` what stands from `at` on; returns where the object ends, or the text."""
        told: list[str] = []
        while at < len(text) and not (self.done or self.broken):
            told.append(self._take(text[at]))
            at += 1
        self.told += "".join(told)
        return at

    def rest(self, call: ToolCall) -> str:
        """What of the whole call's arguments was not told."""
        whole = call.arguments_json()
        if self.done or not whole.startswith(self.told):
            return ""
        return whole[len(self.told) :]

    def _take(self, character: str) -> str:
        if self._escape:
            return self._escaped(character)
        if self._in_string:
            return self._in_text(character)
        if _WORD_PART.match(character):
            self._word += character
            return ""
        word = self._end_word()
        return word if self.broken else word + self._mark(character)

    def _escaped(self, character: str) -> str:
        self._escape += character
        if self._escape[1] == "u" and len(self._escape) < len(r"\u0000"):
            return ""
        escape, self._escape = self._escape, ""
        return escape if _ESCAPE.fullmatch(escape[1:]) else self._break()

    def _in_text(self, character: str) -> str:
        if character == "\\":
            self._escape = character
            return ""
        if character == '"':
            self._in_string, self._has_value, self._held = False, True, character
            return ""
        return _CONTROL.get(character, character)

    def _end_word(self) -> str:
        word, self._word = self._word, ""
        if not word:
            return ""
        if self._has_value or not _WORD.fullmatch(word):
            return self._break()
        return self._value(word, has_value=True)

    def _mark(self, character: str) -> str:
        match character:
            case " " | "\t" | "\r" | "\n":
                return ""
            case '"' if not self._has_value:
                self._in_string = True
                return self._value(character, has_value=False)
            case "{" | "[" if not self._has_value:
                self._open.append(_CLOSING[character])
                told = self._value(character, has_value=False)
                self._just_opened = True
                return told
            case "}" | "]" if self._closes(character):
                self._open.pop()
                self.done = not self._open
                return self._value(character, has_value=True)
            case "," if self._has_value:
                self._has_value, self._held = False, self._held + character
                return ""
            case ":" if self._has_value:
                return self._value(character, has_value=False)
            case _:
                return self._break()

    def _closes(self, character: str) -> bool:
        is_last = bool(self._open) and self._open[-1] == character
        return is_last and (self._has_value or self._just_opened)

    def _value(self, told: str, *, has_value: bool) -> str:
        """A value begins or ends, and so what was held before it is no mistake."""
        held, self._held = self._held, ""
        self._has_value, self._just_opened = has_value, False
        return held + told

    def _break(self) -> str:
        self.broken = True
        return ""
