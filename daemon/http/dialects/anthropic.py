"""Anthropic's API: messages, counting their tokens, and the list of models in its shape."""

from __future__ import annotations

from aiohttp import web
from qm.store.errors import QmError

from ...chat.service import PromptTooLong
from ...keys import Scope
from ...services import Services
from .. import anthropic_schemas as said
from ..anthropic_answer import stream, stream_error, whole
from ..anthropic_request import messages_request
from ..dialect import Dialect, Route
from ..edge import PLAIN_JSON, SSE, Stream, answer, read_fields
from ..fields import JsonObject
from ..schema import BROKEN, Told

_REQUEST = "req_"  # how request ids begin at Anthropic
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
    return answer(await whole(asked, events), content_type=PLAIN_JSON)


async def _count_tokens(request: web.Request, services: Services) -> web.Response:
    fields = await read_fields(request, "anthropic.CountTokensRequest", "EOF")
    tokens = await services.chat.count_tokens(messages_request(fields, counting=True))
    return answer({"input_tokens": tokens}, content_type=PLAIN_JSON)


def error_body(error: QmError, request_id: str) -> JsonObject:
    """The error object of Anthropic's API."""
    message = error.message
    if isinstance(error, PromptTooLong):  # Claude Code shortens a conversation at these words
        counts = f"{error.prompt_tokens} tokens > {error.n_ctx} maximum"
        message = f"prompt is too long: {counts}; {message}"
    told = {"type": _TYPES.get(error.status, "api_error"), "message": message}
    return {"type": "error", "error": told, "request_id": _REQUEST + request_id}


DIALECT = Dialect(
    name="anthropic",
    error_body=error_body,
    error_schema=said.ERROR,
    stream_error=stream_error,
    scope=Scope.CHAT,
    id_headers=lambda request_id: {"Request-Id": _REQUEST + request_id},
    routes=(
        Route(
            "POST",
            "/v1/messages",
            _messages,
            told=Told("Chat", said.WANTED, said.MESSAGE, SSE, failures=BROKEN),
        ),
        Route(
            "POST",
            "/v1/messages/count_tokens",
            _count_tokens,
            told=Told("Count tokens", said.COUNT_WANTED, said.TOKEN_COUNT, failures=BROKEN),
        ),
    ),
)
