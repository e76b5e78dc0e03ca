"""OpenAI's custom tools, whose input is a text and no JSON. Pure.

To a model such a tool is a function of one string; its answers become texts again on the way out.
"""

from __future__ import annotations

import re
from typing import Final

from ..chat import json_text
from ..chat.request import JsonObject
from .fields import Fields, field_of
from .ollama_request import InvalidField

INPUT: Final = "input"
_HEAD: Final = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# Of a JSON string what can be read on its own: no half of an escape, no half of a pair.
_WHOLE: Final = re.compile(
    r'(?:[^"\\]++|\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}(?=[^\\]|\\[^u]|\\u[0-9a-fA-F]{4})'
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4})+"
)


def custom_function(tool: Fields, *, held: bool) -> JsonObject:
    """The function that stands for a custom tool; `held` says that no call to it is made freely.

    Raises InvalidField for a format that can't be enforced.
    """
    text: JsonObject = {"type": "string", "description": "All of the tool's input, as plain text"}
    pattern = _pattern(tool.fields("format"), held=held)
    function = {
        "name": tool.text("name"),
        "description": tool.text("description"),
        "parameters": {
            "type": "object",
            "properties": {INPUT: text | ({"pattern": pattern} if pattern else {})},
            "required": [INPUT],
            "additionalProperties": False,
        },
    }
    return {"type": "function", "function": function}


def _pattern(wanted: Fields, *, held: bool) -> str:
    """The regular expression that the input is held to, if any."""
    kind, path = wanted.text("type", "text"), field_of(wanted.path("type"))
    if kind == "text":
        return ""
    if kind != "grammar":
        raise InvalidField(f"{path} must be text or grammar, not {kind[:100]!r}", path)
    grammar = wanted.fields("grammar") if wanted.raw("grammar") is not None else wanted
    syntax, path = grammar.text("syntax"), field_of(grammar.path("syntax"))
    if syntax != "regex":
        reason = f"{path}: a call can be held to a regex, not to {syntax[:100]!r}"
        raise InvalidField(f"{reason}; leave the format out", path)
    if not held:
        path = field_of(wanted.path("type"))
        reason = "a grammar is enforced only where tool_choice requires a call"
        raise InvalidField(f"{path}: {reason}; leave the format out, or require one", path)
    return f"^(?:{grammar.text('definition')})$"


def input_of(arguments: JsonObject) -> str:
    """The text that a call gives to a custom tool, under whatever name the model wrote it."""
    texts = [value for value in arguments.values() if isinstance(value, str)]
    if isinstance(given := arguments.get(INPUT), str):
        return given
    if len(arguments) == len(texts) == 1:
        return texts[0]
    return json_text.written(arguments) if arguments else ""


class InputReader:
    """The input of a custom tool while the arguments of its call are being written."""

    def __init__(self) -> None:
        self._held = ""
        self._inside = False
        self._told = ""

    def feed(self, arguments: str) -> str:
        """What these further characters of JSON add to the input."""
        self._held += arguments
        if not self._inside:
            if not (head := _HEAD.match(self._held)):
                return ""
            self._inside, self._held = True, self._held[head.end() :]
        whole = _WHOLE.match(self._held)
        if whole is None:
            return ""
        self._held = self._held[whole.end() :]
        try:
            text: str = json_text.parsed(f'"{whole[0]}"')
        except json_text.NotJson:
            self._held = '"'  # the rest is read when the call is complete
            return ""
        self._told += text
        return text

    def rest(self, arguments: JsonObject) -> str:
        """What of the complete call's input was not told yet."""
        whole = input_of(arguments)
        return whole[len(self._told) :] if whole.startswith(self._told) else ""
