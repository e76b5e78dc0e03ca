"""Errors as OpenAI's clients read them."""

from __future__ import annotations

import msgspec
from qm.store.errors import QmError

from ..chat.request import JsonObject
from .openai_answer import DONE

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
# OpenAI's words, by which clients know what to do about an error. What Ollama refuses too is told
# as there, where `code` and `param` are null: such errors name no `field`.
_CODES = {
    "prompt_too_long": "context_length_exceeded",
    "unauthorised": "invalid_api_key",
    "invalid_option": "invalid_value",
    "invalid_field": "invalid_value",
    "unknown_tool": "invalid_value",
    "no_tools": "invalid_value",
    "previous_response_not_found": "previous_response_not_found",
}


def error_body(error: QmError, _request_id: str) -> JsonObject:
    """The error object of OpenAI's API; `param` is the path of the field that is at fault."""
    return {
        "error": {
            "message": error.message,
            "type": _TYPES.get(error.status, "api_error"),
            "param": error.field or None,
            "code": _CODES.get(error.code),
        }
    }


def stream_error(body: object) -> bytes:
    """A stream that fails says so, and ends as every other."""
    return b"data: " + msgspec.json.encode(body) + b"\n\n" + DONE
