"""Renders a conversation with a template in Go syntax, giving it the values that Ollama gives.

A template that reads `.Messages` gets the whole conversation. An older one, which knows only
`.System`, `.Prompt` and `.Response`, is executed once a turn, and its last execution ends where
the response would stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from . import nodes
from .execute import execute
from .functions import typescript_type
from .parser import parse
from .values import Document, Kinds, Struct, Tools, Value

Write = Callable[[str], None]

# What a template's data has at the top; anything else there is a mistake.
TOP_LEVEL: Final = frozenset(
    {
        *("System", "Prompt", "Response", "Suffix", "Messages", "Tools"),
        *("Think", "ThinkLevel", "IsThinkSet", "Thinking", "First", "Last"),
    }
)


def render_chat(template: str, context: Mapping[str, Value], write: Write) -> None:
    """Writes the prompt of `context`, which holds the names that Jinja templates see.

    Raises TemplateSyntaxError and ExecutionError.
    """
    tree = parse(template)
    names = tree.names()
    thinking = {
        "Think": context.get("enable_thinking", False),
        "ThinkLevel": context.get("reasoning_effort", ""),
        "IsThinkSet": "enable_thinking" in context,
        "Thinking": "",  # what was thought is told with the message
    }
    if context.get("suffix"):
        gap = {"Prompt": context.get("prompt", ""), "Suffix": context["suffix"], "Response": ""}
        execute(_with_response(tree, names), {**gap, **thinking}, write)
    elif "Messages" in names:
        execute(tree, _whole(context) | thinking, write)
    else:
        _turn_by_turn(_with_response(tree, names), context, thinking, write)


def _with_response(tree: nodes.Tree, names: frozenset[str]) -> nodes.Tree:
    """A template that places no response has it at its end."""
    if "Response" in names or "Messages" in names:
        return tree
    response = nodes.Pipeline((nodes.Command((nodes.Field(("Response",)),)),))
    return replace(tree, body=(*tree.body, nodes.Action(response)))


def _whole(context: Mapping[str, Value]) -> dict[str, Value]:
    messages = context.get("messages") or []
    system = [message["content"] for message in messages if message["role"] == "system"]
    return {
        "System": "\n\n".join(system),
        "Messages": [_message(message) for message in messages],
        "Tools": Tools(_tool(tool) for tool in context.get("tools") or ()),
        "Response": "",
    }


def _turn_by_turn(
    tree: nodes.Tree, context: Mapping[str, Value], thinking: Mapping[str, Value], write: Write
) -> None:
    turn = {"System": "", "Prompt": "", "Response": ""}

    def flush() -> None:
        execute(tree, {**turn, **thinking}, write)
        turn.update(System="", Prompt="", Response="")

    for message in context.get("messages") or ():
        match message["role"]:
            case "system":
                if turn["Prompt"] or turn["Response"]:
                    flush()
                turn["System"] = message["content"]
            case "user":
                if turn["Response"]:
                    flush()
                turn["Prompt"] = message["content"]
            case "assistant":
                turn["Response"] = message["content"]
    execute(until_response(tree), {**turn, **thinking}, write)


def until_response(tree: nodes.Tree) -> nodes.Tree:
    """`tree` without what follows its first `.Response`."""
    body, _ = _cut(tree.body)
    return replace(tree, body=body)


def _cut(body: nodes.Nodes) -> tuple[nodes.Nodes, bool]:
    kept: list[nodes.Node] = []
    for node in body:
        if isinstance(node, nodes.If | nodes.With | nodes.Range):
            if "Response" in nodes.mentioned(node.pipeline):
                kept.append(replace(node, body=_cut(node.body)[0], otherwise=()))
                return tuple(kept), True
            inside, found = _cut(node.body)
            otherwise, found_there = _cut(node.otherwise)
            kept.append(replace(node, body=inside, otherwise=otherwise))
            if found or found_there:
                return tuple(kept), True
        else:
            kept.append(node)
            if "Response" in nodes.mentioned(node):
                return tuple(kept), True
    return tuple(kept), False


# JSON to what Go's structs would hold -----------------------------------------------------------


def _message(message: Mapping[str, Value]) -> Struct:
    fields = {
        "Role": message["role"],
        "Content": message.get("content", ""),
        "Thinking": message.get("thinking", ""),
        "Images": message.get("images") or [],
        "ToolCalls": [_tool_call(call) for call in message.get("tool_calls") or ()],
        "ToolName": message.get("tool_name", ""),
        "ToolCallID": message.get("tool_call_id", ""),
    }
    return Struct("api.Message", fields)


def _tool_call(call: Mapping[str, Value]) -> Struct:
    function = call.get("function") or {}
    arguments = Document(_sorted(function.get("arguments") or {}))
    fields = {"Index": 0, "Name": function.get("name", ""), "Arguments": arguments}
    inner = Struct("api.ToolCallFunction", fields, {**function, "arguments": arguments})
    fields = {"ID": call.get("id", ""), "Function": inner}
    return Struct("api.ToolCall", fields, {**call, "function": inner})


def _sorted(value: Value) -> Value:
    """Maps by key, as Go visits and prints them."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _tool(tool: Mapping[str, Value]) -> Struct:
    function = tool.get("function") or {}
    parameters = function.get("parameters") or {}
    fields = {
        "Name": function.get("name", ""),
        "Description": function.get("description", ""),
        "Parameters": _schema("api.ToolFunctionParameters", parameters),
    }
    inner = Struct("api.ToolFunction", fields, function)
    tool_fields = {"Type": tool.get("type", ""), "Items": tool.get("items"), "Function": inner}
    return Struct("api.Tool", tool_fields, tool)


def _schema(type_name: str, schema: Mapping[str, Value]) -> Struct:
    """A JSON Schema of tool parameters, or of one of them."""
    properties = schema.get("properties") or {}
    kinds = schema.get("type") or []
    fields: dict[str, Value] = {
        "Type": Kinds([kinds] if isinstance(kinds, str) else kinds),
        "Description": schema.get("description", ""),
        "Enum": schema.get("enum") or [],
        "Items": schema.get("items"),
        "AnyOf": schema.get("anyOf") or [],
        "Defs": schema.get("$defs"),
        "Required": schema.get("required") or [],
        "Properties": Document(
            (name, _schema("api.ToolProperty", value))
            for name, value in sorted(properties.items())
            if isinstance(value, Mapping)
        ),
        "ToTypeScriptType": typescript_type(schema),
    }
    return Struct(type_name, fields, schema)
