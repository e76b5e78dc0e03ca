"""What templates want told in a way of their own, seen from their words. Pure.

Mistral's refuse ids of other than nine letters and digits, DeepSeek's put arguments together with
texts, Phi's look for the tools in the system turn.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .request import JsonObject, Role

_SHORT_IDS: Final = re.compile(r"\bid\s*\|\s*length\s*!=\s*9\b")
_TOOLS_IN_A_TURN: Final = re.compile(r"\bmessage(?:\.tools\b|\[['\"]tools['\"]\])")
_ARGUMENTS: Final = r"[\w.\[\]'\"]*\barguments\b['\"\]]*"
_WRITTEN_OUT: Final = re.compile(rf"(?:\+|\{{\{{-?)\s*{_ARGUMENTS}\s*(?:\+|-?\}}\}})")
# Begins with the word: a pattern that could begin anywhere would take long over long templates.
_LOOKED_INTO: Final = re.compile(
    rf"\barguments\b['\"\]]*\s*(?:\||is\b|\.items)|\bin\s+{_ARGUMENTS}"
)
_ID_CHARACTERS: Final = 9


@dataclass(frozen=True, slots=True)
class _Wishes:
    short_ids: bool
    written_arguments: bool
    tools_in_a_turn: bool


def as_wanted(context: JsonObject, template: str) -> JsonObject:
    """The same for this template: ids, arguments and tools in the way that it can tell them."""
    wishes, messages = _wishes(template), context["messages"]
    if wishes.short_ids:
        messages = [_with_short_ids(message) for message in messages]
    if wishes.written_arguments:
        messages = [_with_written_arguments(message) for message in messages]
    if context["tools"] and wishes.tools_in_a_turn:
        messages = [*_with_tools(messages, context["tools"])]
    return context | {"messages": messages}


@lru_cache(maxsize=64)
def _wishes(template: str) -> _Wishes:
    return _Wishes(
        short_ids=bool(_SHORT_IDS.search(template)),
        written_arguments=bool(_WRITTEN_OUT.search(template)) and not _LOOKED_INTO.search(template),
        tools_in_a_turn=bool(_TOOLS_IN_A_TURN.search(template)),
    )


def short_id(given: str) -> str:
    """Nine letters and digits, always the same for the same id."""
    if len(given) == _ID_CHARACTERS and given.isascii() and given.isalnum():
        return given
    return hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:_ID_CHARACTERS]


def _with_short_ids(message: JsonObject) -> JsonObject:
    document = dict(message)
    if "tool_calls" in message:
        calls = message["tool_calls"]
        document["tool_calls"] = [call | {"id": short_id(call["id"])} for call in calls]
    if message["role"] == Role.TOOL:
        document["tool_call_id"] = short_id(message.get("tool_call_id", ""))
    return document


def _with_written_arguments(message: JsonObject) -> JsonObject:
    calls = [
        call | {"function": _with_text(call["function"])} for call in message.get("tool_calls", ())
    ]
    return message | {"tool_calls": calls} if calls else message


def _with_text(function: JsonObject) -> JsonObject:
    return function | {"arguments": json.dumps(function["arguments"], ensure_ascii=False)}


def _with_tools(messages: list[JsonObject], tools: list[JsonObject]) -> Iterator[JsonObject]:
    text = json.dumps([tool.get("function") or tool for tool in tools], ensure_ascii=False)
    first, rest = messages[:1], messages[1:]
    if not first or first[0]["role"] != Role.SYSTEM:
        first, rest = [{"role": str(Role.SYSTEM), "content": ""}], messages
    yield first[0] | {"tools": text}
    yield from rest
