"""Ollama's two routes for embeddings."""

from __future__ import annotations

from aiohttp import web

from ..chat.request import EmbedRequest
from ..services import Services
from .edge import answer, read_fields
from .fields import Fields, WrongType
from .missing import EMBEDDED, told_as
from .ollama_answer import metrics
from .ollama_request import InvalidField, keep_alive_s, named_model, options


async def embed(request: web.Request, services: Services) -> web.Response:
    """One vector for each text of `input`."""
    fields = await read_fields(request, "api.EmbedRequest")
    asked = _embed_request(fields)
    with told_as(EMBEDDED):
        result = await services.embeddings.embed(asked)
    document = {"model": asked.model, "embeddings": result.vectors}
    return answer(document | metrics(result.metrics))


async def embeddings(request: web.Request, services: Services) -> web.Response:
    """The older route: one `prompt`, one vector."""
    fields = await read_fields(request, "api.EmbeddingRequest")
    prompt = fields.text("prompt")
    asked = EmbedRequest(
        model=named_model(fields),
        texts=(prompt,) if prompt else (),
        truncate=False,
        options=options(fields),
        keep_alive_s=keep_alive_s(fields),
    )
    with told_as(EMBEDDED):
        result = await services.embeddings.embed(asked)
    return answer({"embedding": result.vectors[0] if result.vectors else []})


def _embed_request(fields: Fields) -> EmbedRequest:
    dimensions = fields.optional_integer("dimensions")
    if dimensions is not None and dimensions < 0:
        raise InvalidField(f"dimensions must be positive, not {dimensions}")
    return EmbedRequest(
        model=named_model(fields),
        texts=_texts(fields),
        truncate=fields.boolean("truncate", True),
        dimensions=dimensions or None,
        options=options(fields),
        keep_alive_s=keep_alive_s(fields),
    )


def _texts(fields: Fields) -> tuple[str, ...]:
    """A text or a list of texts; an empty text alone is no input, in a list it is one."""
    value = fields.raw("input")
    if value is None or isinstance(value, str):
        return (value,) if value else ()
    if not isinstance(value, list):
        raise WrongType(fields.path("input"), "string", value)
    return fields.texts("input")
