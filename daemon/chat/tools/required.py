"""Answers that are held to a JSON Schema: a call that must be made, or one that may be instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from qm.store.errors import InvalidRequest

from ..request import JsonObject, ToolChoice

_DEFINITIONS: Final = ("$defs", "definitions")
_MOVED: Final = tuple(f"#/{key}/" for key in _DEFINITIONS)


class UnknownTool(InvalidRequest):
    """`tool_choice` names a tool that is not on offer."""

    code = "unknown_tool"
    field = "tool_choice"

    def __init__(self, name: str) -> None:
        super().__init__(f"tool_choice names the tool '{name}', which is not among tools")
        self.name = name


class NoTools(InvalidRequest):
    """A call is required, and there is nothing to call."""

    code = "no_tools"
    field = "tool_choice"

    def __init__(self) -> None:
        super().__init__("tool_choice requires a call, but there are no tools")


def call_schema(tools: Sequence[JsonObject], choice: ToolChoice) -> JsonObject | None:
    """One call to any of the tools, or to the one that is named; None when nothing is required.

    Raises UnknownTool and NoTools.
    """
    if choice.mode != "required" and not choice.name:
        return None
    if not tools:
        raise NoTools
    functions = [tool.get("function") or tool for tool in tools]
    if choice.name:
        functions = [function for function in functions if function.get("name") == choice.name]
        if not functions:
            raise UnknownTool(choice.name)
    definitions: JsonObject = {}
    calls = [_call(function, definitions) for function in functions]
    schema: JsonObject = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return schema | definitions


def or_call(schema: JsonObject, tools: Sequence[JsonObject]) -> JsonObject:
    """`schema`, or a call to one of the tools, whose arguments are any object.

    Stays as it is where it is a call's own, and where it refers to itself in ways that would mean
    something else then.
    """
    properties = schema.get("properties")
    is_call = isinstance(properties, dict) and {"name", "arguments"} <= properties.keys()
    if is_call or not tools or any(not at.startswith(_MOVED) for at in _references(schema)):
        return schema
    names = [str((tool.get("function") or tool).get("name") or "") for tool in tools]
    call = {
        "type": "object",
        "properties": {"name": {"enum": names}, "arguments": {"type": "object"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    definitions = {key: value for key, value in schema.items() if key in _DEFINITIONS}
    answer = {key: value for key, value in schema.items() if key not in _DEFINITIONS}
    return {"anyOf": [answer, call]} | definitions


def _references(schema: JsonObject) -> Iterator[str]:
    """Where its `$ref`s point, however deep it is nested."""
    left: list[Any] = [schema]  # Any: JSON values
    while left:
        match left.pop():
            case dict() as found:
                if isinstance(at := found.get("$ref"), str):
                    yield at
                left += found.values()
            case list() as found:
                left += found


def _call(function: JsonObject, definitions: JsonObject) -> JsonObject:
    """A call's schema. Definitions move to the root, where references look for them."""
    parameters = {"type": "object"} | (function.get("parameters") or {})
    for key in _DEFINITIONS:
        if isinstance(parameters.get(key), dict):
            own, shared = parameters.pop(key), definitions.setdefault(key, {})
            renamed = _renamed(key, own, shared)
            parameters = _referring(parameters, renamed)
            shared |= {
                renamed.get(f"#/{key}/{name}", name).rpartition("/")[2]: _referring(each, renamed)
                for name, each in own.items()
            }
    return {
        "type": "object",
        "properties": {"name": {"const": function.get("name") or ""}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _renamed(key: str, own: JsonObject, shared: JsonObject) -> dict[str, str]:
    """New references to definitions whose names another tool uses for something else."""
    clashing = [name for name, each in own.items() if shared.get(name, each) != each]
    if not clashing:
        return {}
    number = len(shared)
    return {f"#/{key}/{name}": f"#/{key}/{name}.{number}" for name in own}


def _referring(schema: Any, renamed: Mapping[str, str]) -> Any:  # Any: a JSON document
    """The schema with its references renamed."""
    match schema:
        case dict() if renamed:
            return {
                name: renamed.get(each, each)
                if name == "$ref" and isinstance(each, str)
                else _referring(each, renamed)
                for name, each in schema.items()
            }
        case list() if renamed:
            return [_referring(each, renamed) for each in schema]
        case _:
            return schema
