"""Anthropic's API: messages, counting their tokens, and the list of models in its shape."""

from __future__ import annotations

from aiohttp import web
from qm.store.errors import QmError
from qm.store.manifests import StoredManifest

from ..keys import Scope
from ..services import Services
from .anthropic_answer import stream, stream_error, whole
from .anthropic_request import messages_request
from .dialect import Dialect, Route
from .edge import SSE, Stream, answer, read_fields
from .fields import JsonObject
from .ollama_answer import timestamp

VERSION_HEADER = "Anthropic-Version"  # every client of Anthropic's sends it, and no other
_REQUEST = "req_"  # how request ids begin at Anthropic
_PLAIN_JSON = "application/json"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


async def _messages(request: web.Request, services: Services) -> web.StreamResponse:
    fields = await read_fields(request, "anthropic.MessagesRequest", "EOF")
    asked = messages_request(fields)
    events = services.chat.answer(asked)
    if fields.boolean("stream", False):
        return await Stream(request, SSE).send(stream(asked, events))
    return answer(await whole(asked, events), content_type=_PLAIN_JSON)


async def _count_tokens(request: web.Request, services: Services) -> web.Response:
    fields = await read_fields(request, "anthropic.CountTokensRequest", "EOF")
    tokens = await services.chat.count_tokens(messages_request(fields, counting=True))
    return answer({"input_tokens": tokens}, content_type=_PLAIN_JSON)


def models_document(stored: list[StoredManifest]) -> JsonObject:
    """The list of models as Anthropic's clients read it: one page."""
    rows = [model_document(each) for each in stored]
    ends: JsonObject = {"first_id": None, "last_id": None}
    if rows:
        ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]}
    return {"data": rows, "has_more": False} | ends


def model_document(stored: StoredManifest) -> JsonObject:
    return {
        "type": "model",
        "id": str(stored.name),
        "display_name": stored.name.short,
        "created_at": timestamp(int(stored.modified_s * 1e9)),
    }


def error_body(error: QmError, request_id: str) -> JsonObject:
    """The error object of Anthropic's API."""
    told = {"type": _TYPES.get(error.status, "api_error"), "message": error.message}
    return {"type": "error", "error": told, "request_id": _REQUEST + request_id}


ANTHROPIC = Dialect(
    name="anthropic",
    error_body=error_body,
    stream_error=stream_error,
    scope=Scope.CHAT,
    id_headers=lambda request_id: {"Request-Id": _REQUEST + request_id},
    routes=(
        Route("POST", "/v1/messages", _messages),
        Route("POST", "/v1/messages/count_tokens", _count_tokens),
    ),
)
