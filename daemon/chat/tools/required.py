"""A call that must be made: the JSON Schema that an answer is held to."""

from __future__ import annotations

from collections.abc import Sequence

from qm.store.errors import InvalidRequest

from ..request import JsonObject, ToolChoice


class UnknownTool(InvalidRequest):
    """`tool_choice` names a tool that is not on offer."""

    code = "unknown_tool"

    def __init__(self, name: str) -> None:
        super().__init__(f"tool_choice names the tool '{name}', which is not among tools")
        self.name = name


def call_schema(tools: Sequence[JsonObject], choice: ToolChoice) -> JsonObject | None:
    """One call to any of the tools, or to the one that is named; None when nothing is required.

    Raises UnknownTool.
    """
    if not tools or (choice.mode != "required" and not choice.name):
        return None
    functions = [tool.get("function") or tool for tool in tools]
    if choice.name:
        functions = [function for function in functions if function.get("name") == choice.name]
        if not functions:
            raise UnknownTool(choice.name)
    definitions: JsonObject = {}
    calls = [_call(function, definitions) for function in functions]
    schema: JsonObject = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return schema | definitions


def _call(function: JsonObject, definitions: JsonObject) -> JsonObject:
    """A call's schema. Definitions move to the root, where references look for them."""
    parameters = {"type": "object"} | (function.get("parameters") or {})
    for key in ("$defs", "definitions"):
        if key in parameters:
            definitions[key] = definitions.get(key, {}) | parameters.pop(key)
    return {
        "type": "object",
        "properties": {"name": {"const": function.get("name", "")}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
