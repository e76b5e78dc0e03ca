"""The messages of OpenAI's chat, translated into ours. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..chat.request import Message, Role, ToolCall
from .content import InvalidContent, arguments, audio_data, image_data
from .custom_tools import INPUT
from .fields import Fields, as_object

_ROLES = {"developer": Role.SYSTEM, "function": Role.TOOL}
_GO_KINDS = {bool: "bool", int: "float64", float: "float64", dict: "map[string]interface {}"}


def messages(fields: Fields) -> tuple[Message, ...]:
    """The conversation; results of tools get the name of the tool that was called."""
    turns: list[Message] = []
    names: dict[str, str] = {}
    for each in fields.objects("messages", "openai.Message"):
        turn = _message(each, names)
        names |= {call.id: call.name for call in turn.tool_calls}
        turns.append(turn)
    return tuple(turns)


def _message(fields: Fields, names: dict[str, str]) -> Message:
    role = fields.text("role")
    text, images = content(fields)
    call_id = fields.text("tool_call_id")
    return Message(
        role=_ROLES.get(role, role),
        content=text,
        thinking=fields.text("reasoning_content") or fields.text("reasoning"),
        images=images,
        tool_calls=tuple(_calls(fields)),
        tool_name=names.get(call_id, "") or (fields.text("name") if role in _TOOL_ROLES else ""),
        tool_call_id=call_id,
    )


_TOOL_ROLES = ("tool", "function")


def content(fields: Fields, name: str = "content") -> tuple[str, tuple[bytes, ...]]:
    """The text of a turn, and its images and sounds: a text, or a list of parts."""
    value = fields.raw(name)
    if value is None or isinstance(value, str):
        return value or "", ()
    if not isinstance(value, list):
        kind = _GO_KINDS[type(value)]
        raise InvalidContent(f"invalid message content type: {kind}")
    texts: list[str] = []
    images: list[bytes] = []
    for path, item in fields.items(name):
        part = Fields(as_object(item, path, "openai.ContentPart"), path)
        match part.text("type"):
            case "text" | "input_text" | "output_text":
                texts.append(part.text("text"))
            case "refusal":
                texts.append(part.text("refusal"))
            case "image_url" | "input_image":
                images.append(image_data(_image_url(part)))
            case "input_audio":
                images.append(audio_data(part.fields("input_audio").text("data")))
            case _:
                raise InvalidContent("invalid message format")
    return "\n\n".join(text for text in texts if text), tuple(images)


def _image_url(part: Fields) -> str:
    """Either a URL, or an object that holds it."""
    value = part.raw("image_url")
    return value if isinstance(value, str) else part.fields("image_url").text("url")


def _calls(fields: Fields) -> Iterator[ToolCall]:
    if fields.raw("function_call") is not None:  # as old clients tell the only call
        yield _called(fields.fields("function_call"), "", 0)
    for index, call in enumerate(fields.objects("tool_calls", "openai.ToolCall")):
        if call.text("type") == "custom":
            custom = call.fields("custom")
            given = {INPUT: custom.text("input")}
            yield ToolCall(custom.text("name"), given, call.text("id"), index)
            continue
        yield _called(call.fields("function"), call.text("id"), index)


def _called(function: Fields, call_id: str, index: int) -> ToolCall:
    return ToolCall(
        name=function.text("name"),
        arguments=arguments(function.raw("arguments")),
        id=call_id,
        index=index,
    )
