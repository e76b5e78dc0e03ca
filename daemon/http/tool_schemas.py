"""The shapes of tools on offer, for `/openapi.json`."""

from __future__ import annotations

from ..chat.request import JsonObject
from .schema import MAYBE_OBJECT, MAYBE_TEXT, any_of, shape

NAME: JsonObject = {"type": "string", "minLength": 1}

_FUNCTION = shape(
    {},
    name=MAYBE_TEXT,
    description=MAYBE_TEXT,
    parameters={**shape({}, properties=MAYBE_OBJECT), "type": ["object", "null"]},
)
_TOOL = shape({}, **_FUNCTION["properties"], function={**_FUNCTION, "type": ["object", "null"]})
FUNCTIONS: JsonObject = {"type": ["array", "null"], "items": _FUNCTION}
TOOLS: JsonObject = {"type": ["array", "null"], "items": _TOOL}
TEXT_FORMAT: JsonObject = shape({}, type={"enum": ["text", None]}) | {"type": ["object", "null"]}
_CUSTOM = shape({"name": NAME}, description=MAYBE_TEXT, format=TEXT_FORMAT)
OPENAI_TOOLS: JsonObject = {
    "type": ["array", "null"],
    "items": any_of(
        shape({}, **(_TOOL["properties"] | {"type": {"enum": ["function", None]}})),
        shape({"type": {"const": "custom"}, "custom": _CUSTOM}),
    ),
}
