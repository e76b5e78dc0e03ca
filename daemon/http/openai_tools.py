"""Which tools OpenAI's clients offer, and which of them they want called. Pure.

Old clients call them functions: `functions` and `function_call` stand for tools and their choice.
"""

from __future__ import annotations

from ..chat.request import JsonObject, ToolChoice
from .custom_tools import custom_function
from .fields import Fields
from .hosted_tools import OPENAI, own_tools
from .ollama_request import InvalidField
from .tool_documents import function_document, tool_documents

_WORDS = {"auto", "none", "required"}
_ALLOWED = "allowed_tools"
_OF = "openai.Tool"


def speaks_of_functions(fields: Fields) -> bool:
    """Whether an old client asks, which understands answers in its own words only."""
    return fields.raw("functions") is not None and fields.raw("tools") is None


def functions(fields: Fields) -> tuple[JsonObject, ...]:
    """The functions of an old client, as tools."""
    return tuple(
        {"type": "function", "function": function_document(item, path, "openai.Function")}
        for path, item in fields.items("functions", "openai.Function")
    )


def function_choice(fields: Fields) -> ToolChoice:
    """auto, none, or an object that names one function."""
    value = fields.raw("function_call")
    if value in (None, "auto", "none"):
        return ToolChoice(value or "auto")
    name = "" if isinstance(value, str) else fields.fields("function_call").text("name")
    if not name:
        raise InvalidField("function_call must be auto, none or name a function", "function_call")
    return ToolChoice("required", name)


def tools(fields: Fields) -> tuple[JsonObject, ...]:
    """The tools on offer; a custom one as a function of one text."""
    offered = fields.objects("tools", _OF)
    documents = zip(offered, tool_documents(fields, _OF), strict=True)
    own = set(own_tools(offered, OPENAI, "function"))
    held = tool_choice(fields).mode != "auto"
    return tuple(
        custom_function(tool.fields("custom"), held=held) if _is_custom(tool) else document
        for tool, document in documents
        if tool in own
    )


def custom_names(fields: Fields) -> frozenset[str]:
    """The names of the tools that take a text."""
    offered = fields.objects("tools", _OF)
    return frozenset(t.fields("custom").text("name") for t in offered if _is_custom(t))


def _is_custom(tool: Fields) -> bool:
    return tool.text("type") == "custom"


def tool_choice(fields: Fields) -> ToolChoice:
    """auto, none, required, or an object that names one tool or says which are allowed."""
    value = fields.raw("tool_choice")
    if value is None:
        return ToolChoice()
    if isinstance(value, str):
        return ToolChoice(_word(value))
    choice = fields.fields("tool_choice")
    if choice.text("type") == _ALLOWED:
        return ToolChoice(_word(_allowance(choice).text("mode", "auto")))
    name = _name(choice)
    if not name:
        raise _unknown()
    return ToolChoice("required", name)


def allowed(fields: Fields, offered: tuple[JsonObject, ...]) -> tuple[JsonObject, ...]:
    """Of the tools on offer those that the choice allows: all, unless it lists them."""
    if not isinstance(fields.raw("tool_choice"), dict):
        return offered
    choice = fields.fields("tool_choice")
    if choice.text("type") != _ALLOWED:
        return offered
    tool_choice(fields)  # raises for a mode that is none, which comes first
    wanted = [_name(each) for each in _allowance(choice).objects("tools")]
    by_name = {(tool.get("function") or tool).get("name"): tool for tool in offered}
    missing = [name for name in wanted if name not in by_name]
    if missing or not wanted:
        shown = repr(missing[0][:100]) if missing else "none"
        raise InvalidField(f"tool_choice allows {shown}, which is not among tools", "tool_choice")
    return tuple(by_name[name] for name in dict.fromkeys(wanted))


def _allowance(choice: Fields) -> Fields:
    """Where chat keeps mode and tools; responses keep them one level higher."""
    return choice.fields(_ALLOWED) if choice.raw(_ALLOWED) is not None else choice


def _name(choice: Fields) -> str:
    nested = choice.fields("function").text("name") or choice.fields("custom").text("name")
    return choice.text("name") or nested


def _word(value: str) -> str:
    if value not in _WORDS:
        raise _unknown()
    return value


def _unknown() -> InvalidField:
    return InvalidField(
        "tool_choice must be auto, none, required, name a function, or be of type allowed_tools",
        "tool_choice",
    )
