"""The shapes of Anthropic's API, for `/openapi.json`."""

from __future__ import annotations

from ..chat.request import JsonObject
from .openai_schemas import SAMPLING
from .schema import (
    BASE64,
    FLAG,
    MAYBE_OBJECT,
    MAYBE_TEXT,
    MAYBE_TEXTS,
    MODEL,
    NULL,
    NUMBER,
    OBJECT,
    OBJECTS,
    TEXT,
    Schema,
    any_of,
    array_of,
    shape,
)
from .tool_schemas import NAME

_WORDS = shape({"type": {"const": "text"}, "text": {"type": "string", "minLength": 1}})
_IMAGE = shape(
    {
        "type": {"const": "image"},
        "source": shape({"type": {"const": "base64"}, "media_type": TEXT, "data": BASE64}),
    }
)
_USE = shape(
    {"type": {"const": "tool_use"}, "id": TEXT, "name": NAME, "input": OBJECT},
)
_RESULT = shape(
    {"type": {"const": "tool_result"}, "tool_use_id": TEXT},
    content=any_of(TEXT, array_of(_WORDS), NULL),
)
_BLOCKS = array_of(any_of(_WORDS, _IMAGE, _USE, _RESULT), minItems=1)
_TURN = shape({"role": {"enum": ["user", "assistant"]}, "content": any_of(TEXT, _BLOCKS)})
_TOOL = shape({"name": NAME}, description=MAYBE_TEXT, input_schema=MAYBE_OBJECT)
_CHOICE = any_of(
    shape({"type": {"enum": ["auto", "any", "none"]}}, disable_parallel_tool_use=FLAG),
    shape({"type": {"const": "tool"}, "name": NAME}),
    NULL,
)
_THINKING = any_of(shape({"type": {"enum": ["enabled", "disabled", "adaptive"]}}), NULL)
_ASKED: JsonObject = {
    "model": MODEL,
    "messages": array_of(_TURN, minItems=1),
}
_SHARED: JsonObject = SAMPLING | {
    "system": any_of(TEXT, array_of(_WORDS), NULL),
    "tools": {"type": ["array", "null"], "items": _TOOL},
    "tool_choice": _CHOICE,
    "thinking": _THINKING,
}

WANTED = Schema(
    "Messages",
    shape(
        _ASKED | {"max_tokens": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}},
        stop_sequences=MAYBE_TEXTS,
        **_SHARED,
    ),
)
COUNT_WANTED = Schema("CountTokens", shape(_ASKED, **_SHARED))
MESSAGE = Schema(
    "Message",
    shape(
        {
            "id": TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "content": OBJECTS,
            "stop_reason": {"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]},
            "usage": shape({"input_tokens": NUMBER, "output_tokens": NUMBER}),
        }
    ),
)
TOKEN_COUNT = Schema("TokenCount", shape({"input_tokens": NUMBER}))
ERROR = Schema(
    "AnthropicError",
    shape(
        {
            "type": {"const": "error"},
            "error": shape({"type": TEXT, "message": TEXT}),
            "request_id": TEXT,
        }
    ),
)
