"""Anthropic's messages, translated into our request. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..chat.request import Format, JsonObject, Message, Request, Role, ToolCall, ToolChoice
from .content import InvalidContent, arguments, image_data, named_options, token_limit
from .fields import Fields, field_of
from .hosted_tools import ANTHROPIC, own_tools, unknown_tool
from .ollama_request import InvalidField, model_name
from .openai_request import lifetime

_MODES = {"auto": "auto", "any": "required", "none": "none", "tool": "required"}


def messages_request(fields: Fields, *, counting: bool = False) -> Request:
    """The meaning of a body of `/v1/messages`; to count tokens it needs no `max_tokens`."""
    model = model_name(fields)
    limit = token_limit(fields, "max_tokens")
    if not counting and (limit is None or limit < 1):
        raise InvalidField("max_tokens is required and must be positive")
    turns = tuple(_turns(fields))
    if not turns:
        raise InvalidField("messages is required")
    system = _text_of(fields, "system")
    stops = fields.texts("stop_sequences")
    continues = turns[-1].role == Role.ASSISTANT and not turns[-1].tool_calls
    return Request(
        model=model,
        messages=(Message(Role.SYSTEM, system), *turns) if system else turns,
        tools=_tools(fields.objects("tools", "anthropic.Tool")),
        tool_choice=_tool_choice(choice := fields.fields("tool_choice")),
        parallel_calls=not choice.boolean("disable_parallel_tool_use", False),
        format=_format(fields),
        think=_think(fields.fields("thinking")) if not continues else False,
        continues=continues,
        options=named_options(fields, limit, stop=list(stops) or None),
        **lifetime(fields),
    )


def _turns(fields: Fields) -> Iterator[Message]:
    """One of theirs may be several of ours: each result of a tool is a turn."""
    names: dict[str, str] = {}
    for each in fields.objects("messages", "anthropic.MessageParam"):
        role, content = each.text("role"), each.raw("content")
        if role not in ("user", "assistant", "system"):
            raise InvalidField(f"{field_of(each.path('role'))} must be user or assistant")
        if content is None or isinstance(content, str):
            yield Message(role, content or "")
            continue
        yield from _turns_of_blocks(role, each.objects("content", "anthropic.ContentBlock"), names)


def _turns_of_blocks(role: str, blocks: list[Fields], names: dict[str, str]) -> Iterator[Message]:
    texts: list[str] = []
    turn = Message(role)
    for block in blocks:
        match block.text("type"):
            case "text":
                texts.append(block.text("text"))
            case "image":
                turn = replace(turn, images=(*turn.images, _image(block)))
            case "thinking":
                turn = replace(turn, thinking=turn.thinking + block.text("thinking"))
            case "redacted_thinking":
                pass  # another model's, which nobody can read
            case "document":
                texts.append(_document(block))
            case "search_result":
                texts.append(_search_result(block))
            case "tool_use" | "server_tool_use":
                call = _call(block, len(turn.tool_calls))
                names[call.id] = call.name
                turn = replace(turn, tool_calls=(*turn.tool_calls, call))
            case "tool_result":
                yield _result(block, names)
            case _:
                raise _unknown(block)
    turn = replace(turn, content="\n\n".join(text for text in texts if text))
    if turn != Message(role):
        yield turn


def _call(block: Fields, index: int) -> ToolCall:
    return ToolCall(
        block.text("name"), arguments(block.raw("input")), id=block.text("id"), index=index
    )


def _result(block: Fields, names: dict[str, str]) -> Message:
    call_id = block.text("tool_use_id")
    images: tuple[bytes, ...] = ()
    if isinstance(block.raw("content"), list):
        blocks = block.objects("content", "anthropic.ContentBlock")
        images = tuple(_image(each) for each in blocks if each.text("type") == "image")
    return Message(
        Role.TOOL,
        _text_of(block, "content", beside=("image",)),
        images=images,
        tool_name=names.get(call_id, ""),
        tool_call_id=call_id,
    )


def _text_of(fields: Fields, name: str, *, beside: tuple[str, ...] = ()) -> str:
    """A text, or the texts of a list of blocks, some of which may be of kinds `beside` them."""
    value = fields.raw(name)
    if not isinstance(value, list):
        return fields.text(name)
    texts: list[str] = []
    for block in fields.objects(name, "anthropic.ContentBlock"):
        match block.text("type"):
            case "text":
                texts.append(block.text("text"))
            case "document":
                texts.append(_document(block))
            case "search_result":
                texts.append(_search_result(block))
            case kind if kind not in beside:
                raise _unknown(block)
    return "\n\n".join(text for text in texts if text)


def _unknown(block: Fields) -> InvalidContent:
    path = field_of(block.path("type"))
    return InvalidContent(f"{path}: no block type {block.text('type')[:100]!r} is known here")


def _image(block: Fields) -> bytes:
    source = block.fields("source")
    return image_data(source.text("url") or source.text("data"))


def _document(block: Fields) -> str:
    """The text of a document; of other kinds nothing can be read."""
    source = block.fields("source")
    if source.text("type") != "text":
        raise InvalidContent("only documents of type text can be read")
    return source.text("data")


def _search_result(block: Fields) -> str:
    """What a client found itself: where, and what."""
    head = "\n".join(text for text in (block.text("title"), block.text("source")) if text)
    return "\n\n".join(text for text in (head, _text_of(block, "content")) if text)


def _tools(offered: list[Fields]) -> tuple[JsonObject, ...]:
    """All of them but what Anthropic runs itself, which is refused where it is all there is."""
    return tuple(_tool(each) for each in own_tools(offered, ANTHROPIC, "custom"))


def _tool(fields: Fields) -> JsonObject:
    """A tool in the form that templates render."""
    if fields.text("type", "custom") != "custom":
        raise unknown_tool(fields)
    function: JsonObject = {
        "name": fields.text("name"),
        "description": fields.text("description"),
        "parameters": fields.document("input_schema"),
    }
    return {"type": "function", "function": function}


def _tool_choice(fields: Fields) -> ToolChoice:
    kind = fields.text("type", "auto")
    if kind not in _MODES:
        raise InvalidField("tool_choice.type must be auto, any, tool or none")
    name = fields.text("name")
    if kind == "tool" and not name:
        raise InvalidField("tool_choice.name is required for the type tool")
    return ToolChoice(_MODES[kind], name if kind == "tool" else "")


def _think(fields: Fields) -> bool | None:
    """Claude Code sends a budget to every model; none is refused for that."""
    if (fields.optional_integer("budget_tokens") or 0) < 0:
        raise InvalidField("thinking.budget_tokens must not be negative")
    match fields.text("type"):
        case "":
            return None
        case "enabled" | "adaptive":
            return None  # a budget allows reasoning: who can reason does, who can't answers
        case "disabled":
            return False
        case kind:
            raise InvalidField(f"thinking.type must be enabled or disabled, not {kind[:100]!r}")


def _format(fields: Fields) -> Format | None:
    wanted = fields.fields("output_config").fields("format")
    if not wanted.text("type"):
        wanted = fields.fields("output_format")
    match wanted.text("type"):
        case "":
            return None
        case "json_schema":
            return Format(json_schema=wanted.document("schema"))
        case kind:
            path = field_of(wanted.path("type"))
            raise InvalidField(f"{path} must be json_schema, not {kind[:100]!r}")
