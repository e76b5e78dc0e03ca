"""Ollama's native API: its routes, and the ones that generate."""

from __future__ import annotations

from aiohttp import web

from ..chat.request import Request
from ..keys import Scope
from ..services import Services
from . import ollama_models as models
from .dialect import Dialect, Route
from .edge import Stream, answer, read_fields
from .fields import Fields
from .ollama_answer import Body, chat_body, generate_body, stream, whole
from .ollama_create import create
from .ollama_embed import embed, embeddings
from .ollama_pull import pull, push
from .ollama_request import chat_request, generate_request

# Clients compare it with the oldest Ollama whose API they can use (VS Code Copilot: 0.6.4), so it
# says whose API this is. Our own version stands beside it.
API_VERSION = "0.99.0"


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


OLLAMA = Dialect(
    name="ollama",
    scope=Scope.CHAT,
    routes=(
        Route("POST", "/api/chat", _chat),
        Route("POST", "/api/generate", _generate),
        Route("POST", "/api/embed", embed),
        Route("POST", "/api/embeddings", embeddings),
        Route("GET", "/api/tags", models.tags, head=True),
        Route("POST", "/api/show", models.show),
        Route("GET", "/api/ps", models.ps),
        Route("POST", "/api/create", create, scope=Scope.MANAGE),
        Route("POST", "/api/pull", pull, scope=Scope.MANAGE),
        Route("POST", "/api/push", push, scope=Scope.MANAGE),
        Route("POST", "/api/copy", models.copy, scope=Scope.MANAGE),
        Route("DELETE", "/api/delete", models.delete, scope=Scope.MANAGE),
        Route("HEAD", "/api/blobs/{digest}", models.has_blob, scope=Scope.MANAGE),
        Route("POST", "/api/blobs/{digest}", models.put_blob, scope=Scope.MANAGE),
        Route("GET", "/api/version", _version, head=True),
        Route("GET", "/api/status", _status),
        Route("GET", "/", _root, head=True),
        Route("GET", "/health", _health, head=True),
    ),
)
