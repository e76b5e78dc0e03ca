"""OpenAI's responses API. Responses are kept in memory, so that a request may go on from one."""

from __future__ import annotations

from functools import partial

import msgspec
from aiohttp import web

from ..chat.request import JsonObject, Message
from ..keys import Scope
from ..services import Services
from .dialect import Dialect, Route
from .edge import SSE, Stream, answer, read_fields, sse
from .openai import PLAIN_JSON, error_body
from .responses_answer import stream, whole
from .responses_memory import ResponseMemory
from .responses_request import Asked, responses_request

MEMORY = web.AppKey("responses", ResponseMemory)


async def _create(request: web.Request, services: Services) -> web.StreamResponse:
    fields = await read_fields(request, "openai.ResponsesRequest", "EOF")
    memory = request.app[MEMORY]
    previous = fields.text("previous_response_id")
    asked = responses_request(fields, memory.get(previous).turns if previous else ())
    events = services.chat.answer(asked.request)
    keep = partial(_keep, memory, asked)
    if asked.stream:
        return await Stream(request, SSE).send(stream(asked, events, keep))
    return answer(await whole(asked, events, keep), content_type=PLAIN_JSON)


def _keep(memory: ResponseMemory, asked: Asked, document: JsonObject, turn: Message) -> None:
    if asked.store:
        memory.keep(document, (*asked.turns, turn))


async def _get(request: web.Request, _services: Services) -> web.Response:
    kept = request.app[MEMORY].get(request.match_info["id"])
    return answer(kept.document, content_type=PLAIN_JSON)


async def _delete(request: web.Request, _services: Services) -> web.Response:
    response_id = request.match_info["id"]
    request.app[MEMORY].forget(response_id)
    document = {"id": response_id, "object": "response", "deleted": True}
    return answer(document, content_type=PLAIN_JSON)


def stream_error(body: object) -> bytes:
    """A stream's last event when it fails; `error` is where the SDKs look for it."""
    told = msgspec.convert(body, dict[str, JsonObject])
    return sse({"type": "error", "sequence_number": 0, **told["error"], **told}, "error")


RESPONSES = Dialect(
    name="responses",
    error_body=error_body,
    stream_error=stream_error,
    scope=Scope.CHAT,
    routes=(
        Route("POST", "/v1/responses", _create),
        Route("GET", "/v1/responses/{id}", _get),
        Route("DELETE", "/v1/responses/{id}", _delete),
    ),
)
