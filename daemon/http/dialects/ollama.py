"""Ollama's native API: its routes, and the ones that generate."""

from __future__ import annotations

from aiohttp import web

from ...chat.request import Request
from ...keys import Scope
from ...services import Services
from .. import ollama_models as models
from .. import ollama_schemas as said
from ..dialect import Dialect, Route
from ..edge import Stream, answer, read_fields
from ..fields import Fields
from ..ollama_answer import Body, chat_body, generate_body, stream, whole
from ..ollama_create import create
from ..ollama_embed import embed, embeddings
from ..ollama_pull import pull, push
from ..ollama_request import chat_request, generate_request
from ..schema import ANY, BROKEN, NDJSON_TYPE, Told

# Clients compare it with the oldest Ollama whose API they can use (VS Code Copilot: 0.6.4), so it
# says whose API this is. Our own version stands beside it.
API_VERSION = "0.99.0"
_DISK_FULL = ("507", *BROKEN)
# A server wants us to wait, can't be reached (500) or sends what is wrong. Streams tell
# it in a line.
_JOB_FAILS = ("429", "502", *_DISK_FULL)


async def _chat(request: web.Request, services: Services) -> web.StreamResponse:
    fields = await read_fields(request, "api.ChatRequest")
    return await _answered(request, services, fields, chat_request(fields), chat_body)


async def _generate(request: web.Request, services: Services) -> web.StreamResponse:
    fields = await read_fields(request, "api.GenerateRequest")
    return await _answered(request, services, fields, generate_request(fields), generate_body)


async def _answered(
    request: web.Request, services: Services, fields: Fields, asked: Request, body: Body
) -> web.StreamResponse:
    """Streams unless told not to; what generates nothing is one document, as Ollama has it."""
    events = services.chat.answer(asked)
    if asked.load_only or asked.render_only or not fields.boolean("stream", True):
        return answer(await whole(asked.model, events, body))
    return await Stream(request).send(stream(asked.model, events, body))


async def _root(_request: web.Request, _services: Services) -> web.Response:
    return web.Response(text="Ollama is running")  # clients look for these very words


async def _version(_request: web.Request, _services: Services) -> web.Response:
    return answer({"version": API_VERSION})


async def _status(_request: web.Request, _services: Services) -> web.Response:
    return answer({"cloud": {"disabled": True, "source": "none"}})


async def _health(_request: web.Request, _services: Services) -> web.Response:
    return answer({"status": "ok"})


DIALECT = Dialect(
    name="ollama",
    scope=Scope.CHAT,
    routes=(
        Route(
            "POST",
            "/api/chat",
            _chat,
            told=Told("Chat", said.CHAT, said.NATIVE_ANSWER, NDJSON_TYPE, failures=BROKEN),
        ),
        Route(
            "POST",
            "/api/generate",
            _generate,
            told=Told("Generate", said.GENERATE, said.NATIVE_ANSWER, NDJSON_TYPE, failures=BROKEN),
        ),
        Route(
            "POST",
            "/api/embed",
            embed,
            told=Told("Embed texts", said.EMBED, said.NATIVE_EMBEDDINGS, failures=BROKEN),
        ),
        Route(
            "POST",
            "/api/embeddings",
            embeddings,
            told=Told("Embed one text", said.NATIVE_PROMPT, said.NATIVE_EMBEDDING, failures=BROKEN),
        ),
        Route(
            "GET", "/api/tags", models.tags, head=True, told=Told("List models", response=said.TAGS)
        ),
        Route(
            "POST",
            "/api/show",
            models.show,
            told=Told("Show a model", said.SHOW, said.SHOWN, failures=BROKEN),
        ),
        Route("GET", "/api/ps", models.ps, told=Told("List loaded models", response=said.TAGS)),
        Route(
            "POST",
            "/api/create",
            create,
            scope=Scope.MANAGE,
            told=Told(
                "Build a model",
                said.CREATE,
                said.PROGRESS,
                NDJSON_TYPE,
                failures=_JOB_FAILS,
            ),
        ),
        Route(
            "POST",
            "/api/pull",
            pull,
            scope=Scope.MANAGE,
            told=Told(
                "Download a model",
                said.MODEL_WANTED,
                said.PROGRESS,
                NDJSON_TYPE,
                failures=_JOB_FAILS,
            ),
        ),
        Route(
            "POST",
            "/api/push",
            push,
            scope=Scope.MANAGE,
            told=Told(
                "Upload a model",
                said.MODEL_WANTED,
                said.PROGRESS,
                NDJSON_TYPE,
                failures=_JOB_FAILS,
            ),
        ),
        Route(
            "POST",
            "/api/copy",
            models.copy,
            scope=Scope.MANAGE,
            told=Told("Copy a model", said.COPY, failures=_DISK_FULL),
        ),
        Route(
            "DELETE",
            "/api/delete",
            models.delete,
            scope=Scope.MANAGE,
            told=Told("Delete a model", said.MODEL_WANTED, failures=BROKEN),
        ),
        Route(
            "HEAD",
            "/api/blobs/{digest}",
            models.has_blob,
            scope=Scope.MANAGE,
            told=Told("Is this blob here?", path=said.BLOB, failures=BROKEN),
        ),
        Route(
            "POST",
            "/api/blobs/{digest}",
            models.put_blob,
            scope=Scope.MANAGE,
            told=Told(
                "Upload a blob", said.BYTES, status="201", path=said.BLOB, failures=_DISK_FULL
            ),
        ),
        Route(
            "GET",
            "/api/version",
            _version,
            head=True,
            told=Told("The API's version", response=said.VERSION),
        ),
        Route("GET", "/api/status", _status, told=Told("State of the cloud: none", response=ANY)),
        Route("GET", "/", _root, head=True, told=Told("Is anybody there?", text=True)),
        Route("GET", "/health", _health, head=True, told=Told("Is it well?", response=said.HEALTH)),
    ),
)
