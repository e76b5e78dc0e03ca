"""The shapes of OpenAI's responses, for `/openapi.json`."""

from __future__ import annotations

from ..chat.request import JsonObject
from .openai_schemas import (
    CHOICE_WORDS,
    DATA_URL,
    REASONING,
    SAMPLING,
)
from .schema import (
    FLAG,
    MAYBE_OBJECT,
    MAYBE_TEXT,
    MODEL,
    NULL,
    NUMBER,
    OBJECT,
    OBJECTS,
    TEXT,
    Parameter,
    Schema,
    any_of,
    array_of,
    shape,
    whole,
)
from .tool_schemas import NAME, TEXT_FORMAT

_PART = any_of(
    shape({"type": {"enum": ["input_text", "output_text"]}, "text": TEXT}),
    shape({"type": {"const": "input_image"}, "image_url": DATA_URL}),
)
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_ITEM = any_of(
    shape({"role": TEXT, "content": any_of(TEXT, array_of(_PART))}, type={"const": "message"}),
    shape(
        {"type": {"const": "function_call"}, "call_id": TEXT, "name": NAME},
        arguments=any_of(OBJECT, {"const": ""}, NULL),
    ),
    shape(
        {"type": {"const": "custom_tool_call"}, "call_id": TEXT, "name": NAME, "input": TEXT},
    ),
    shape({"type": {"enum": list(_OUTPUTS)}, "call_id": TEXT, "output": TEXT}),
)
_FUNCTION = shape(
    {"type": {"const": "function"}, "name": NAME},
    description=MAYBE_TEXT,
    parameters=MAYBE_OBJECT,
)
_CUSTOM = shape(
    {"type": {"const": "custom"}, "name": NAME}, description=MAYBE_TEXT, format=TEXT_FORMAT
)
_NAMESPACE = shape(
    {
        "type": {"const": "namespace"},
        "name": NAME,
        "tools": array_of(any_of(_FUNCTION, _CUSTOM)),
    },
    description=MAYBE_TEXT,
)
_FORMAT = any_of(
    shape({"type": {"enum": ["text", "json_object"]}}),
    shape({"type": {"const": "json_schema"}, "name": TEXT, "schema": OBJECT}),
    NULL,
)
_ASKED: JsonObject = {
    "model": MODEL,
    "input": any_of({"type": "string", "minLength": 1}, array_of(_ITEM, minItems=1)),
}
_SHARED: JsonObject = SAMPLING | {
    "instructions": MAYBE_TEXT,
    "tools": {"type": ["array", "null"], "items": any_of(_FUNCTION, _CUSTOM, _NAMESPACE)},
    "tool_choice": any_of(
        CHOICE_WORDS, shape({"type": {"enum": ["function", "custom"]}, "name": NAME})
    ),
    "parallel_tool_calls": FLAG,
    "text": shape({}, format=_FORMAT) | {"type": ["object", "null"]},
    "reasoning": REASONING,
    "top_logprobs": whole(0, 20),
    "max_output_tokens": whole(-1),
    "previous_response_id": MAYBE_TEXT,
    "truncation": {"enum": ["auto", "disabled", None]},
    "metadata": MAYBE_OBJECT,
}
# What nobody waits for is kept, to be fetched.
_LATER: JsonObject = {"store": {"enum": [True, None]}, "stream": {"enum": [False, None]}}
WANTED = Schema(
    "OpenAIResponse",
    any_of(
        shape(_ASKED, **(_SHARED | {"store": FLAG, "background": {"enum": [False, None]}})),
        shape(_ASKED | {"background": {"const": True}}, **(_SHARED | _LATER)),
    ),
)
_STATES = ("completed", "incomplete", "queued", "in_progress", "failed", "cancelled")
RESPONSE = Schema(
    "Response",
    shape(
        {
            "id": TEXT,
            "object": {"const": "response"},
            "status": {"enum": list(_STATES)},
            "output": OBJECTS,
        }
    ),
)
DELETED = Schema(
    "ResponseDeleted",
    shape({"id": TEXT, "object": {"const": "response"}, "deleted": {"const": True}}),
)
ITEMS = Schema(
    "ResponseItems",
    shape(
        {
            "object": {"const": "list"},
            "data": OBJECTS,
            "first_id": MAYBE_TEXT,
            "last_id": MAYBE_TEXT,
            "has_more": {"type": "boolean"},
        }
    ),
)
COUNTED = Schema(
    "InputTokens", shape({"object": {"const": "response.input_tokens"}, "input_tokens": NUMBER})
)
HOW_TOLD = (Parameter("stream", {"enum": ["false"]}),)
PAGE = (
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 100}),
    Parameter("order", {"enum": ["asc", "desc"]}),
    Parameter("after", {"type": "string", "maxLength": 0}),
)
