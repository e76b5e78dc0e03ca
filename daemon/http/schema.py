"""What `/openapi.json` says of a route: the shapes of bodies, and words to write them with."""

from __future__ import annotations

from dataclasses import dataclass

from ..chat.request import JsonObject

# Of `Told.failures`: what is stored turns out to be broken, or a model's process dies.
BROKEN = ("500",)
JSON_TYPE, NDJSON_TYPE, SSE_TYPE = "application/json", "application/x-ndjson", "text/event-stream"

# What answers hold.
TEXT: JsonObject = {"type": "string"}
NUMBER: JsonObject = {"type": "number"}
OBJECT: JsonObject = {"type": "object"}


def array_of(item: JsonObject, **bounds: int) -> JsonObject:
    return {"type": "array", "items": item, **bounds}


def shape(required: JsonObject, **optional: JsonObject) -> JsonObject:
    """An object with these fields, and any others."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
    }


def any_of(*shapes: JsonObject) -> JsonObject:
    return {"anyOf": list(shapes)}


OBJECTS, TEXTS, NUMBERS = array_of(OBJECT), array_of(TEXT), array_of(NUMBER)

# What clients send: null counts as absent wherever a field may be.
NULL: JsonObject = {"type": "null"}
MAYBE_TEXT: JsonObject = {"type": ["string", "null"]}
MAYBE_OBJECT: JsonObject = {"type": ["object", "null"]}
MAYBE_TEXTS: JsonObject = {"type": ["array", "null"], "items": TEXT}
FLAG: JsonObject = {"type": ["boolean", "null"]}
TOKEN: JsonObject = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
TOKENS = array_of(TOKEN)
TEXT_OR_TEXTS = any_of(TEXT, TEXTS)
BINARY: JsonObject = {"type": "string", "format": "binary"}


def whole(low: int, high: int = 2**31 - 1) -> JsonObject:
    """A whole number that may be left out."""
    return {"type": ["integer", "null"], "minimum": low, "maximum": high}


_WORD = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_HOST, _NAMESPACE = "[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}", "[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"
MODEL: JsonObject = {
    "type": "string",
    "pattern": f"^(({_HOST}/)?{_NAMESPACE}/)?{_WORD}(:{_WORD})?$",
    "description": "[host/][namespace/]model[:tag]",
}
NAMED: JsonObject = {"model": MODEL}
DIGEST: JsonObject = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
BASE64: JsonObject = {
    "type": "string",
    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
KEEP_ALIVE: JsonObject = {
    "description": "seconds, or like 5m; negative: forever",
    **any_of(
        NUMBER,
        {"type": "string", "pattern": r"^(-?([0-9]{1,6}(\.[0-9]{1,6})?(ns|us|ms|s|m|h)){1,4})?$"},
        NULL,
    ),
}


@dataclass(frozen=True, slots=True)
class Schema:
    """The shape of a body, under a name that is its own among all dialects."""

    name: str
    document: JsonObject
    media_type: str = JSON_TYPE


ANY = Schema("Any", OBJECT)
NATIVE_ERROR = Schema("NativeError", shape({"error": TEXT}))


@dataclass(frozen=True, slots=True)
class Parameter:
    """A word of the path, or one of the query, which may be left out."""

    name: str
    schema: JsonObject


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of one route."""

    summary: str
    request: Schema | None = None  # None: no body
    response: Schema | None = None  # None: nothing, or text
    stream: str = ""  # the content type of the streamed form
    status: str = "200"
    text: bool = False
    path: tuple[Parameter, ...] = ()  # those that are more than any text
    query: tuple[Parameter, ...] = ()
    failures: tuple[str, ...] = ()  # statuses that are no fault of the request
