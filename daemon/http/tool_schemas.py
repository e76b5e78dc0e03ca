"""The shapes of tools on offer, for `/openapi.json`."""

from __future__ import annotations

from ..chat.request import JsonObject
from .schema import MAYBE_OBJECT, MAYBE_TEXT, shape

_FUNCTION = shape(
    {},
    name=MAYBE_TEXT,
    description=MAYBE_TEXT,
    parameters={**shape({}, properties=MAYBE_OBJECT), "type": ["object", "null"]},
)
_TOOL = shape({}, **_FUNCTION["properties"], function={**_FUNCTION, "type": ["object", "null"]})
FUNCTIONS: JsonObject = {"type": ["array", "null"], "items": _FUNCTION}
TOOLS: JsonObject = {"type": ["array", "null"], "items": _TOOL}
