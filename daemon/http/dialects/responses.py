"""OpenAI's responses API. Responses are kept in memory, so that a request may go on from one."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec
from aiohttp import web
from qm.store.errors import QmError
from qm.store.name import Name

from ...chat.request import JsonObject, Message
from ...keys import Scope
from ...services import Services
from .. import responses_schemas as said
from ..dialect import Dialect, Route
from ..edge import PLAIN_JSON, SSE, Stream, answer, read_fields, sse
from ..fields import Fields
from ..ollama_request import InvalidField
from ..openai_errors import error_body
from ..openai_schemas import ERROR
from ..responses_answer import opened, stream, whole
from ..responses_background import UNFINISHED, Background
from ..responses_items import page, with_items
from ..responses_memory import ResponseMemory
from ..responses_request import Asked, responses_request
from ..schema import BROKEN, Told

_ID = "{id:(?!input_tokens$)[^/]+}"  # what has a route of its own is no response
BACKGROUND = web.AppKey("background", Background)
MEMORY = web.AppKey("responses", ResponseMemory)


async def _create(request: web.Request, services: Services) -> web.StreamResponse:
    fields = await read_fields(request, "openai.ResponsesRequest", "EOF")
    memory = request.app[MEMORY]
    asked = _asked(fields, memory)
    keep = partial(_keep, memory, asked)
    if asked.background:
        name = Name.parse(asked.request.model)
        await asyncio.to_thread(services.store.manifests.read, name)  # or nobody learns of it
    events = services.chat.answer(asked.request)
    if asked.stream:
        return await Stream(request, SSE).send(stream(asked, events, keep))
    document = opened(asked)
    if asked.background:
        memory.keep(document, asked.turns, asked.items)
        request.app[BACKGROUND].start(document, whole(asked, document, events, keep))
    else:
        await whole(asked, document, events, keep)
    return answer(document, content_type=PLAIN_JSON)


def _asked(fields: Fields, memory: ResponseMemory) -> Asked:
    """The request, with the turns of the response that it goes on from."""
    fields = with_items(fields, memory.item)
    previous = fields.text("previous_response_id")
    if not previous:
        return responses_request(fields)
    kept = memory.before(previous)
    if kept.document["status"] in UNFINISHED:
        reason = "previous_response_id: this response is still being generated"
        raise InvalidField(reason, "previous_response_id")
    return responses_request(fields, kept.turns, (*kept.items, *kept.document["output"]))


def _keep(memory: ResponseMemory, asked: Asked, document: JsonObject, turn: Message) -> None:
    if asked.store:
        memory.keep(document, (*asked.turns, turn), asked.items)


async def _count(request: web.Request, services: Services) -> web.Response:
    """How many tokens a request would put in, by the rules of creating it."""
    fields = await read_fields(request, "openai.ResponsesRequest", "EOF")
    asked = _asked(fields, request.app[MEMORY])
    tokens = await services.chat.count_tokens(asked.request)
    document = {"object": "response.input_tokens", "input_tokens": tokens}
    return answer(document, content_type=PLAIN_JSON)


async def _get(request: web.Request, _services: Services) -> web.Response:
    if request.query.get("stream", "false").lower() not in ("", "0", "false"):
        raise InvalidField("stream: a kept response is one document; ask for it without stream")
    kept = request.app[MEMORY].get(request.match_info["id"])
    return answer(kept.document, content_type=PLAIN_JSON)


async def _input_items(request: web.Request, _services: Services) -> web.Response:
    kept = request.app[MEMORY].get(request.match_info["id"])
    return answer(page(kept.items, dict(request.query)), content_type=PLAIN_JSON)


async def _cancel(request: web.Request, _services: Services) -> web.Response:
    """Cancelling what is over already changes nothing."""
    document = request.app[MEMORY].get(request.match_info["id"]).document
    request.app[BACKGROUND].cancel(document)
    return answer(document, content_type=PLAIN_JSON)


async def _delete(request: web.Request, _services: Services) -> web.Response:
    response_id, memory = request.match_info["id"], request.app[MEMORY]
    document = memory.get(response_id).document
    if document["background"]:
        request.app[BACKGROUND].cancel(document)
    memory.forget(response_id)
    return answer(
        {"id": response_id, "object": "response", "deleted": True}, content_type=PLAIN_JSON
    )


def _error_body(error: QmError, request_id: str) -> JsonObject:
    """As everywhere at OpenAI; but what others call messages is the input here."""
    told = error_body(error, request_id)
    if error.field == "messages":
        told["error"]["param"] = "input"
    return told


def stream_error(body: object) -> bytes:
    """A stream's last event when it fails; `error` is where the SDKs look for it."""
    told = msgspec.convert(body, dict[str, JsonObject])
    return sse({**told["error"], "type": "error", "sequence_number": 0, **told}, "error")


def _prepare(app: web.Application) -> None:
    app[MEMORY], app[BACKGROUND] = ResponseMemory(), Background()
    app.cleanup_ctx.append(app[BACKGROUND].until_closed)


DIALECT = Dialect(
    name="responses",
    error_body=_error_body,
    error_schema=ERROR,
    prepare=_prepare,
    stream_error=stream_error,
    scope=Scope.CHAT,
    routes=(
        Route(
            "POST",
            "/v1/responses",
            _create,
            told=Told("Respond", said.WANTED, said.RESPONSE, SSE, failures=BROKEN),
        ),
        Route(
            "POST",
            "/v1/responses/input_tokens",
            _count,
            told=Told("Count what a request puts in", said.WANTED, said.COUNTED, failures=BROKEN),
        ),
        Route(
            "GET",
            f"/v1/responses/{_ID}",
            _get,
            told=Told("A kept response", response=said.RESPONSE, query=said.HOW_TOLD),
        ),
        Route(
            "DELETE",
            f"/v1/responses/{_ID}",
            _delete,
            told=Told("Forget a response", response=said.DELETED),
        ),
        Route(
            "GET",
            f"/v1/responses/{_ID}/input_items",
            _input_items,
            told=Told("What was put in", response=said.ITEMS, query=said.PAGE),
        ),
        Route(
            "POST",
            f"/v1/responses/{_ID}/cancel",
            _cancel,
            told=Told("Cancel a background response", response=said.RESPONSE),
        ),
    ),
)
