"""OpenAI's API: chat, completions, embeddings and the list of models."""

from __future__ import annotations

import array
import asyncio
import base64
import sys
from dataclasses import replace

from aiohttp import web
from qm.store.manifests import StoredManifest
from qm.store.name import Name

from ...keys import Scope
from ...services import Services
from .. import openai_schemas as said
from ..anthropic_models import VERSION_HEADER, model_document, models_document
from ..dialect import Dialect, Route
from ..edge import PLAIN_JSON, SSE, Stream, answer, read_fields
from ..fields import JsonObject
from ..missing import EMBEDDED, SHOWN, told_as
from ..openai_answer import CHAT, FUNCTIONS, TEXT, Shape, stream, usage_of, whole
from ..openai_errors import error_body, stream_error
from ..openai_request import Wanted, chat_wanted, completion_wanted, embed_wanted
from ..rerank import rerank
from ..schema import BROKEN, Told
from ..transcription import transcribe


async def _chat(request: web.Request, services: Services) -> web.StreamResponse:
    fields = await read_fields(request, "openai.ChatCompletionRequest", "EOF")
    wanted = chat_wanted(fields)
    shape = FUNCTIONS if wanted.functions else replace(CHAT, custom=wanted.custom)
    return await _answered(request, services, wanted, shape)


async def _completions(request: web.Request, services: Services) -> web.StreamResponse:
    fields = await read_fields(request, "openai.CompletionRequest", "EOF")
    return await _answered(request, services, completion_wanted(fields), TEXT)


async def _answered(
    request: web.Request, services: Services, wanted: Wanted, shape: Shape
) -> web.StreamResponse:
    answers = [services.chat.answer(each) for each in wanted.requests]
    if not wanted.stream:
        document = await whole(wanted.model, answers, shape, wanted.n)
        return answer(document, content_type=PLAIN_JSON)
    pieces = stream(
        wanted.model,
        answers,
        shape,
        include_usage=wanted.include_usage,
        n=wanted.n,
    )
    return await Stream(request, SSE).send(pieces)


async def _embeddings(request: web.Request, services: Services) -> web.Response:
    fields = await read_fields(request, "openai.EmbedRequest", "EOF")
    asked = embed_wanted(fields)
    with told_as(EMBEDDED):
        result = await services.embeddings.embed(asked)
    as_text = fields.text("encoding_format") == "base64"
    document = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "embedding": _base64(vector) if as_text else vector,
                "index": index,
            }
            for index, vector in enumerate(result.vectors)
        ],
        "model": asked.model,
        "usage": _embed_usage(result.metrics.prompt_tokens),
    }
    return answer(document, content_type=PLAIN_JSON)


def _embed_usage(tokens: int) -> JsonObject:
    counted = usage_of(tokens, 0)
    del counted["completion_tokens"]
    return counted


def _base64(vector: tuple[float, ...]) -> str:
    """Little-endian 32-bit floats, as the SDKs decode them."""
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


async def _models(request: web.Request, services: Services) -> web.Response:
    stored, _ = await asyncio.to_thread(services.store.manifests.list)
    stored.sort(key=lambda entry: entry.modified_s, reverse=True)
    if VERSION_HEADER in request.headers:
        return answer(models_document(stored), content_type=PLAIN_JSON)
    return answer({"object": "list", "data": [_model(each) for each in stored]})


async def _model_by_name(request: web.Request, services: Services) -> web.Response:
    name = Name.parse(request.match_info["model"])
    with told_as(SHOWN):
        stored = await asyncio.to_thread(services.store.manifests.read, name)
    shape = model_document if VERSION_HEADER in request.headers else _model
    return answer(shape(stored), content_type=PLAIN_JSON)


def _model(stored: StoredManifest) -> JsonObject:
    owner = stored.name.namespace
    return {
        "id": str(stored.name),
        "object": "model",
        "created": int(stored.modified_s),
        "owned_by": owner,
    }


DIALECT = Dialect(
    name="openai",
    error_body=error_body,
    error_schema=said.ERROR,
    stream_error=stream_error,
    scope=Scope.CHAT,
    routes=(
        Route(
            "POST",
            "/v1/chat/completions",
            _chat,
            told=Told("Chat", said.CHAT, said.ANSWER, SSE, failures=BROKEN),
        ),
        Route(
            "POST",
            "/v1/completions",
            _completions,
            told=Told("Complete", said.COMPLETION, said.ANSWER, SSE, failures=BROKEN),
        ),
        Route(
            "POST",
            "/v1/embeddings",
            _embeddings,
            told=Told("Embed", said.EMBED, said.EMBEDDINGS, failures=BROKEN),
        ),
        Route(
            "POST",
            "/v1/rerank",
            rerank,
            told=Told("Rank documents", said.RERANK, said.RANKING, failures=BROKEN),
        ),
        Route("GET", "/v1/models", _models, told=Told("List models", response=said.MODEL_LIST)),
        Route(
            "GET",
            "/v1/models/{model:.+}",
            _model_by_name,
            told=Told(
                "One model", response=said.MODEL_ENTRY, path=said.MODEL_PATH, failures=BROKEN
            ),
        ),
        Route(
            "POST",
            "/v1/audio/transcriptions",
            transcribe,
            told=Told("Transcribe", said.FORM, said.TRANSCRIPT, SSE, failures=BROKEN),
        ),
    ),
)
