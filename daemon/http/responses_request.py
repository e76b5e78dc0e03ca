"""The requests of OpenAI's responses API, translated into ours. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..chat.request import Format, JsonObject, Message, Request, Role, ToolCall
from .content import arguments, effort, named_options, token_limit
from .custom_tools import INPUT
from .fields import Fields, as_object, field_of
from .ollama_request import ANY_OBJECT, MOST_TOP_LOGPROBS, InvalidField, model_name
from .openai_messages import content
from .openai_request import bounded, lifetime
from .openai_tools import allowed, tool_choice
from .responses_items import input_items
from .responses_tools import Namespaces, name_in, offered, shown

_ROLES = {"developer": Role.SYSTEM}
_KEPT_AT_OPENAI = {  # what the answer would silently do without, and what to send instead
    "conversation": "send the turns, or go on from previous_response_id",
    "prompt": "send its text as instructions and input",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what it means to us, and what its answer repeats."""

    request: Request
    turns: tuple[Message, ...]  # without the instructions, which do not carry over
    items: tuple[JsonObject, ...]  # the same as the client wrote them
    echo: JsonObject
    previous: str
    store: bool
    stream: bool
    namespaces: Namespaces
    custom: frozenset[str] = frozenset()  # tools that take a text, by the model's names
    background: bool = False


def responses_request(
    fields: Fields, earlier: Sequence[Message] = (), earlier_items: Sequence[JsonObject] = ()
) -> Asked:
    """The meaning of a body of `/v1/responses`, after the turns of an earlier response."""
    for name, instead in _KEPT_AT_OPENAI.items():
        if fields.raw(name) is not None:
            raise InvalidField(f"{name}: it is kept at OpenAI only; {instead}", name)
    turns = (*earlier, *_turns(fields))
    if not turns:
        raise InvalidField("input is required", "input")
    instructions = fields.text("instructions")
    system = (Message(Role.SYSTEM, instructions),) if instructions else ()
    tools, options = offered(fields), fields.fields("reasoning")
    top_logprobs = bounded(fields, "top_logprobs", 0, 0, MOST_TOP_LOGPROBS)
    life = lifetime(fields)
    life["truncate"] = life["truncate"] or fields.text("truncation") == "auto"
    request = Request(
        model=model_name(fields),
        messages=(*system, *turns),
        tools=allowed(fields, tools.tools),
        tool_choice=tool_choice(fields),
        parallel_calls=fields.boolean("parallel_tool_calls", True),
        format=_format(fields.fields("text").fields("format")),
        think=effort(options.raw("effort"), options.path("effort")),
        options=named_options(fields, token_limit(fields, "max_output_tokens")),
        logprobs=bool(top_logprobs) or "message.output_text.logprobs" in fields.texts("include"),
        top_logprobs=top_logprobs,
        **life,
    )
    return Asked(
        request=request,
        turns=turns,
        items=(*earlier_items, *input_items(fields)),
        echo=_echo(fields),
        previous=fields.text("previous_response_id"),
        store=fields.boolean("store", True),
        stream=fields.boolean("stream", False),
        namespaces=tools.namespaces,
        custom=tools.custom,
        background=_background(fields),
    )


def _background(fields: Fields) -> bool:
    """Whether nobody waits for the answer. Raises InvalidField where it could not be fetched."""
    if not fields.boolean("background", False):
        return False
    if not fields.boolean("store", True):
        reason = "background needs store: a response that is not kept can't be fetched"
        raise InvalidField(reason, "background")
    if fields.boolean("stream", False):
        raise InvalidField("background can't be streamed; fetch the response by its id", "stream")
    return True


def _turns(fields: Fields) -> Iterator[Message]:
    value = fields.raw("input")
    if value is None or isinstance(value, str):
        if value:
            yield Message(Role.USER, value)
        return
    names: dict[str, str] = {}
    calls: list[ToolCall] = []
    for path, item in fields.items("input", "openai.ResponsesInputItem"):
        each = Fields(as_object(item, path, "openai.ResponsesInputItem"), path)
        if each.text("type") in ("function_call", "custom_tool_call"):
            calls.append(_call(each, len(calls)))
            names[calls[-1].id] = calls[-1].name
            continue
        if calls:  # neighbouring calls are one turn
            yield Message(Role.ASSISTANT, tool_calls=tuple(calls))
            calls = []
        yield from _turn(each, names)
    if calls:
        yield Message(Role.ASSISTANT, tool_calls=tuple(calls))


def _turn(item: Fields, names: dict[str, str]) -> Iterator[Message]:
    match item.text("type", "message"):
        case "message" | "":
            role = item.text("role")
            text, images = content(item)
            yield Message(_ROLES.get(role, role), text, images=images)
        case "function_call_output" | "custom_tool_call_output":
            call_id = item.text("call_id")
            output = item.raw("output")
            text = content(item, "output")[0] if isinstance(output, list) else item.text("output")
            yield Message(Role.TOOL, text, tool_name=names.get(call_id, ""), tool_call_id=call_id)
        case "reasoning":
            pass  # templates drop earlier reasoning themselves
        case kind:
            path = field_of(item.path("type"))
            raise InvalidField(f"{path}: no item type {kind[:100]!r} is known", path)


def _call(item: Fields, index: int) -> ToolCall:
    name = name_in(item.text("namespace"), item.text("name"))
    custom = item.text("type") == "custom_tool_call"
    given = {INPUT: item.text("input")} if custom else arguments(item.raw("arguments"))
    return ToolCall(name, given, item.text("call_id"), index)


def _format(wanted: Fields) -> Format | None:
    match wanted.text("type"):
        case "" | "text":
            return None
        case "json_object":
            return Format(json_schema=ANY_OBJECT)
        case "json_schema":
            return Format(json_schema=wanted.document("schema"))
        case kind:
            raise InvalidField(
                f"text.format.type must be text, json_object or json_schema, not {kind[:100]!r}",
                "text.format.type",
            )


def _echo(fields: Fields) -> JsonObject:
    """What a response repeats of its request, with OpenAI's defaults."""
    tools = [shown(each) for each in fields.objects("tools")]
    return {
        "previous_response_id": fields.text("previous_response_id") or None,
        "instructions": fields.optional_text("instructions"),
        "tools": tools,
        "tool_choice": fields.raw("tool_choice") or "auto",
        "truncation": fields.text("truncation") or "disabled",
        "parallel_tool_calls": fields.boolean("parallel_tool_calls", True),
        "text": fields.document("text") or {"format": {"type": "text"}},
        "top_p": _or(fields.number("top_p"), 1),
        "presence_penalty": _or(fields.number("presence_penalty"), 0),
        "frequency_penalty": _or(fields.number("frequency_penalty"), 0),
        "top_logprobs": fields.integer("top_logprobs"),
        "temperature": _or(fields.number("temperature"), 1),
        "reasoning": fields.document("reasoning") or None,
        "max_output_tokens": fields.optional_integer("max_output_tokens"),
        "max_tool_calls": fields.raw("max_tool_calls"),
        "store": fields.boolean("store", True),
        "background": fields.boolean("background", False),
        "service_tier": "default",
        "metadata": fields.document("metadata"),
        "safety_identifier": None,
        "prompt_cache_key": None,
    }


def _or(value: float | None, default: int) -> float:
    return default if value is None else value
