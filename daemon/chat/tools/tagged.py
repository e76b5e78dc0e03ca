"""Calls in tags: Qwen's `<function=…>`, GLM's keys and values, MiniMax' `<invoke name="…">`."""

from __future__ import annotations

import re
from typing import Final

from .calls import Call, Malformed, Tools, arguments, read_json, typed

_FUNCTION: Final = re.compile(r"<function=([^>\s]+)>(.*?)(</function>|\Z)", re.DOTALL)
_PARAMETER: Final = re.compile(
    r"<parameter=([^>\s]+)>\n?(.*?)\n?(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL
)
_INVOKE: Final = re.compile(r'<invoke name="?([^">]+)"?>(.*?)(</invoke>)', re.DOTALL)
_NAMED: Final = re.compile(r'<parameter name="?([^">]+)"?[^>]*>\n?(.*?)\n?</parameter>', re.DOTALL)
_KEYED: Final = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_NAME: Final = re.compile(r"[\w.\-/]+")


def read_tagged(text: str, tools: Tools) -> list[Call]:
    """What stands in `<tool_call>`: JSON, Qwen's XML or GLM's keys and values."""
    body = text.strip()
    if body.startswith(("{", "[")):
        return read_json(body, tools)
    if body.startswith("<function="):
        return _elements(body, _FUNCTION, _PARAMETER, tools)
    return [_keyed_call(body, tools)]


def read_invokes(text: str, tools: Tools) -> list[Call]:
    """MiniMax' elements."""
    return _elements(text.strip(), _INVOKE, _NAMED, tools)


def _elements(
    text: str, element: re.Pattern[str], parameter: re.Pattern[str], tools: Tools
) -> list[Call]:
    calls = [_element(match, parameter, tools) for match in element.finditer(text)]
    if not calls or _left(element, text):
        raise Malformed(text)
    return calls


def _element(match: re.Match[str], parameter: re.Pattern[str], tools: Tools) -> Call:
    name, body, end = match.groups()
    if body.strip().startswith("{"):
        return Call(name, arguments(body.strip()))
    is_cut = not end and body.strip() and not body.rstrip().endswith("</parameter>")
    if is_cut or _left(parameter, body):
        raise Malformed(match[0])
    pairs = parameter.findall(body)
    given = {key: typed(value, tools.parameter(name, key)) for key, value in pairs}
    return Call(name, arguments(given))


def _keyed_call(body: str, tools: Tools) -> Call:
    name, mark, rest = body.partition("<arg_key>")
    if not _NAME.fullmatch(name.strip()) or _left(_KEYED, mark + rest):
        raise Malformed(body)
    name = name.strip()
    pairs = [(key.strip(), value) for key, value in _KEYED.findall(body)]
    given = {key: typed(value, tools.parameter(name, key)) for key, value in pairs}
    return Call(name, arguments(given))


def _left(known: re.Pattern[str], text: str) -> str:
    """What of a text is none of what is known: a call that leaves it out would lose it."""
    return known.sub("", text).strip()
