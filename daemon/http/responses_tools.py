"""The tools of a body of `/v1/responses`: functions and texts, alone or in namespaces. Pure.

Models know a tool by one name, so a namespace's functions get longer names on the way in, and on
the way out the two that the client knows them by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ..chat.request import JsonObject
from .custom_tools import custom_function
from .fields import Fields
from .hosted_tools import OPENAI, own_tools, unknown_tool
from .openai_tools import tool_choice

_OF: Final = "openai.ResponsesTool"
_FUNCTION: Final = "function"
_CUSTOM: Final = "custom"
_NAMESPACE: Final = "namespace"

Namespaces: TypeAlias = Mapping[str, tuple[str, str]]  # namespace and name, by the model's name


@dataclass(frozen=True, slots=True)
class Offered:
    """Tools as templates read them, which are in namespaces, and which take a text."""

    tools: tuple[JsonObject, ...] = ()
    namespaces: Namespaces = field(default_factory=dict)
    custom: frozenset[str] = frozenset()


def name_in(namespace: str, name: str) -> str:
    """What a model calls a function of a namespace, or of none."""
    return f"{namespace.rstrip('_')}__{name}" if namespace else name


def offered(fields: Fields) -> Offered:
    """Raises InvalidField for tools that can't be offered, unless others can be in their place."""
    own = own_tools(fields.objects("tools", _OF), OPENAI, _FUNCTION)
    flat = [each for tool in own for each in _flat(tool)]
    names = {tool.text("name") for namespace, tool in flat if not namespace}
    held = tool_choice(fields).mode != "auto"
    tools: list[JsonObject] = []
    namespaces: dict[str, tuple[str, str]] = {}
    custom: set[str] = set()
    for namespace, tool in flat:
        name = called = tool.text("name")
        if namespace:
            called = _unlike(names, name_in(namespace, name))
            namespaces[called] = (namespace, name)
            names.add(called)
        if tool.text("type") == _CUSTOM:
            custom.add(called)
        tools.append(_document(tool, called, held=held))
    return Offered(tuple(tools), namespaces, frozenset(custom))


def shown(tool: Fields) -> JsonObject:
    """The tool as a response repeats it."""
    kind = tool.text("type", _FUNCTION)
    if OPENAI.runs(kind):
        return {"type": kind}
    told = {"type": kind, "name": tool.text("name"), "description": tool.text("description")}
    if kind == _NAMESPACE:
        return told | {"tools": [shown(each) for each in tool.objects("tools", _OF)]}
    if kind == _CUSTOM:
        return told | {"format": tool.document("format") or {"type": "text"}}
    return told | {"strict": tool.raw("strict"), "parameters": tool.document("parameters")}


def _flat(tool: Fields) -> Iterator[tuple[str, Fields]]:
    """The tool, or those of the namespace that it is, each with its namespace."""
    inside = tool.text("type") == _NAMESPACE
    for each in tool.objects("tools", _OF) if inside else [tool]:
        if each.text("type", _FUNCTION) not in (_FUNCTION, _CUSTOM):
            raise unknown_tool(each)
        yield tool.text("name") if inside else "", each


def _unlike(names: set[str], name: str) -> str:
    while name in names:
        name += "_"
    return name


def _document(tool: Fields, name: str, *, held: bool) -> JsonObject:
    if tool.text("type") == _CUSTOM:
        document = custom_function(tool, held=held)
        document["function"]["name"] = name
        return document
    told = {
        "name": name,
        "description": tool.text("description"),
        "parameters": tool.document("parameters"),
    }
    return {"type": "function", "function": told}
