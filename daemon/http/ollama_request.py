"""Ollama's requests, translated into ours. Pure: documents in, `Request`s out."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any

import msgspec
from qm.modelfiles.parameters import check_all
from qm.store.errors import InvalidRequest, NotFound

from ..chat import json_text
from ..chat.request import Format, Message, Request, ToolCall
from ..logs import Log
from ..runner.wire import Options
from ..setting_values import InvalidDuration, parse_duration
from .fields import Fields, JsonObject, WrongType, as_integer, as_object, field_of
from .tool_documents import tool_documents

log = Log("http")

MOST_TOP_LOGPROBS = 20
ANY_OBJECT: JsonObject = {"type": "object"}  # what JSON without a schema is
_THINK_LEVELS = ("high", "medium", "low", "max")
_THINK_VALUES = '"high", "medium", "low", "max", true, or false'


class InvalidField(InvalidRequest):
    """A field's value can't be used; the message says why."""

    code = "invalid_field"

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class ModelNameMissing(InvalidRequest):
    """The request names no model."""

    code = "model_required"

    def __init__(self) -> None:
        super().__init__("model is required")


class UnnamedModel(NotFound):
    """No model was named where Ollama then looks for one without a name."""

    code = "model_not_found"

    def __init__(self) -> None:
        super().__init__("model '' not found")


def named_model(fields: Fields) -> str:
    """As `model_name`; raises UnnamedModel, which is a 404 as on Ollama's generating routes."""
    try:
        return model_name(fields)
    except ModelNameMissing as error:
        raise UnnamedModel from error


def model_name(fields: Fields) -> str:
    """The model that a request names, by either of the two fields. Raises ModelNameMissing."""
    name = fields.text("model") or fields.text("name")
    if not name:
        raise ModelNameMissing
    return name


def chat_request(fields: Fields) -> Request:
    """The meaning of a body of `/api/chat`."""
    messages = tuple(_message(each) for each in fields.objects("messages", "api.Message"))
    return Request(
        model=model_name(fields),
        messages=messages,
        tools=tool_documents(fields, "api.Tool"),
        load_only=not messages,
        **_shared(fields),
    )


def generate_request(fields: Fields) -> Request:
    """The meaning of a body of `/api/generate`."""
    prompt, suffix, raw = fields.text("prompt"), fields.text("suffix"), fields.boolean("raw", False)
    context = tuple(token(item, path) for path, item in fields.items("context"))
    system, template = fields.text("system"), fields.text("template")
    images = _images(fields)
    if raw and (system or template or context):
        raise InvalidField("raw mode does not support template, system, or context")
    return Request(
        model=named_model(fields),
        prompt=prompt,
        images=images,
        suffix=suffix,
        system=system or None,
        template=template or None,
        raw=raw,
        context=context,
        load_only=not (prompt or suffix or images),
        **_shared(fields),
    )


def keep_alive_s(fields: Fields) -> float | None:
    """Seconds of `keep_alive`: a number, or a Go duration; negative means forever."""
    value = fields.raw("keep_alive")
    match value:
        case None | "":
            return None
        case bool():
            raise InvalidField(
                "keep_alive must be a number of seconds or a duration, not a boolean"
            )
        case int() | float():
            seconds = float(value)
        case str():
            seconds = _duration(value)
        case _:
            raise WrongType(fields.path("keep_alive"), "api.Duration", value)
    return math.inf if seconds < 0 else seconds


def options(fields: Fields) -> Options:
    """The options that are set, in range; unknown ones are logged and ignored."""
    known, unknown = check_all(fields.document("options"))
    if unknown:
        log.warning("options_ignored", names=",".join(sorted(unknown))[:200])
    return msgspec.convert(known, Options)


def _shared(fields: Fields) -> dict[str, Any]:
    """What chat and generate have in common, as arguments of `Request`."""
    top_logprobs = fields.integer("top_logprobs")
    if not 0 <= top_logprobs <= MOST_TOP_LOGPROBS:
        raise InvalidField(f"top_logprobs must be between 0 and {MOST_TOP_LOGPROBS}")
    constraint, wanted = _format(fields.raw("format")), options(fields)
    if constraint and wanted.grammar:
        raise InvalidField("format and the option grammar can't be combined")
    return {
        "format": constraint,
        "think": _think(fields.raw("think")),
        "options": wanted,
        "keep_alive_s": keep_alive_s(fields),
        # Where Ollama cuts unless told not to, we cut only when asked: CONTRACT, section 0.
        "truncate": fields.boolean("truncate", False),
        "shift": fields.boolean("shift", True),
        "logprobs": fields.boolean("logprobs", False),
        "top_logprobs": top_logprobs,
        "render_only": fields.boolean("_debug_render_only", False),
    }


def _format(value: object) -> Format | None:
    match value:
        case None | "":
            return None
        case "json":
            return Format(json_schema=ANY_OBJECT)
        case dict():
            return Format(json_schema=value)
        case _:
            shown = json.dumps(json.dumps(value)[:200])
            raise InvalidField(
                f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
            )


def _think(value: object) -> bool | str | None:
    match value:
        case None | bool():
            return value
        case str() if value in _THINK_LEVELS:
            return value
        case str():
            shown = json.dumps(value[:100])
            raise InvalidField(f"invalid think value: {shown} (must be {_THINK_VALUES})")
        case _:
            raise InvalidField(f"think must be a boolean or string ({_THINK_VALUES})")


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except InvalidDuration as error:
        shown = json.dumps(text[:100])
        if re.fullmatch(r"[-+]?\d+\.?\d*", text):
            raise InvalidField(f"time: missing unit in duration {shown}") from error
        raise InvalidField(f"time: invalid duration {shown}") from error


def _message(fields: Fields) -> Message:
    return Message(
        role=fields.text("role"),
        content=fields.text("content"),
        thinking=fields.text("thinking"),
        images=_images(fields),
        tool_calls=tuple(
            _tool_call(each, index)
            for index, each in enumerate(fields.objects("tool_calls", "api.ToolCall"))
        ),
        tool_name=fields.text("tool_name"),
        tool_call_id=fields.text("tool_call_id"),
    )


def _tool_call(fields: Fields, index: int) -> ToolCall:
    function = fields.fields("function")
    return ToolCall(
        name=function.text("name"),
        arguments=_arguments(function),
        id=fields.text("id"),
        index=function.integer("index", index),
    )


def _arguments(function: Fields) -> JsonObject:
    """A call's arguments; JSON text is accepted besides an object."""
    value, path = function.raw("arguments"), function.path("arguments")
    if isinstance(value, str):
        try:
            value = json_text.parsed(value)
        except json_text.NotJson as error:
            raise WrongType(path, "api.ToolCallFunctionArguments", value) from error
    return {} if value is None else as_object(value, path)


def _images(fields: Fields) -> tuple[bytes, ...]:
    return tuple(
        _image(text, f"{fields.path('images')}[{index}]")
        for index, text in enumerate(fields.texts("images"))
    )


def _image(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidField(
            f"{field_of(path)} must be the base64 data of an image, not a URL"
        ) from error


def token(value: object, path: str) -> int:
    """A token's number. Raises WrongType."""
    number = as_integer(value, path)
    if not 0 <= number < 2**31:
        raise WrongType(path, "int", value)
    return number
