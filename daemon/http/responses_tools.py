"""The tools of a body of `/v1/responses`: functions, alone or in namespaces. Pure.

Models know a tool by one name, so a namespace's functions get longer names on the way in, and on
the way out the two that the client knows them by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ..chat.request import JsonObject
from .fields import Fields, field_of
from .ollama_request import InvalidField

_OF: Final = "openai.ResponsesTool"
_NAMESPACE: Final = "namespace"
# What OpenAI runs itself. Agents offer some of it beside their own tools, and go on without.
_HOSTED: Final = frozenset(
    {
        "code_interpreter",
        "computer_use_preview",
        "file_search",
        "image_generation",
        "mcp",
        "tool_search",
        "web_search",
        "web_search_preview",
    }
)

Namespaces: TypeAlias = Mapping[str, tuple[str, str]]  # namespace and name, by the model's name


@dataclass(frozen=True, slots=True)
class Offered:
    """Tools as templates read them, and which of them are in namespaces."""

    tools: tuple[JsonObject, ...] = ()
    namespaces: Namespaces = field(default_factory=dict)


def name_in(namespace: str, name: str) -> str:
    """What a model calls a function of a namespace, or of none."""
    return f"{namespace.rstrip('_')}__{name}" if namespace else name


def offered(fields: Fields) -> Offered:
    """Raises InvalidField for tools that can't be offered, unless others can be in their place."""
    wanted = [(tool, tool.text("type", "function")) for tool in fields.objects("tools", _OF)]
    own = [(tool, kind) for tool, kind in wanted if kind not in _HOSTED]
    if wanted and not own:
        raise _refused(wanted[0][0])
    functions = [each for tool, kind in own for each in _functions(tool, kind)]
    names = {function.text("name") for namespace, function in functions if not namespace}
    tools: list[JsonObject] = []
    namespaces: dict[str, tuple[str, str]] = {}
    for namespace, function in functions:
        name = called = function.text("name")
        if namespace:
            called = _unlike(names, name_in(namespace, name))
            namespaces[called] = (namespace, name)
            names.add(called)
        tools.append(_document(function, called))
    return Offered(tuple(tools), namespaces)


def shown(tool: Fields) -> JsonObject:
    """The tool as a response repeats it."""
    kind = tool.text("type", "function")
    if kind in _HOSTED:
        return {"type": kind}
    told = {"type": kind, "name": tool.text("name"), "description": tool.text("description")}
    if kind == _NAMESPACE:
        return told | {"tools": [shown(each) for each in tool.objects("tools", _OF)]}
    return told | {"strict": tool.raw("strict"), "parameters": tool.document("parameters")}


def _functions(tool: Fields, kind: str) -> Iterator[tuple[str, Fields]]:
    """The functions of a tool, each with its namespace."""
    if kind == "function":
        yield "", tool
    elif kind == _NAMESPACE:
        for each in tool.objects("tools", _OF):
            if each.text("type", "function") != "function":
                raise _refused(each)
            yield tool.text("name"), each
    else:
        raise _refused(tool)


def _unlike(names: set[str], name: str) -> str:
    while name in names:
        name += "_"
    return name


def _refused(tool: Fields) -> InvalidField:
    path = field_of(tool.path("type"))
    return InvalidField(f"{path}: {tool.text('type')[:100]!r} runs at OpenAI only", path)


def _document(function: Fields, name: str) -> JsonObject:
    told = {
        "name": name,
        "description": function.text("description"),
        "parameters": function.document("parameters"),
    }
    return {"type": "function", "function": told}
