"""`/v1/rerank`, in the shape that Jina's and Cohere's clients and llama-server share."""

from __future__ import annotations

from aiohttp import web

from ..chat.request import Ranking, RerankRequest
from ..services import Services
from .edge import PLAIN_JSON, answer, read_fields
from .fields import Fields, JsonObject
from .missing import EMBEDDED, told_as
from .ollama_request import InvalidField, keep_alive_s, model_name, options


async def rerank(request: web.Request, services: Services) -> web.Response:
    """The documents by falling score."""
    fields = await read_fields(request)
    asked = _request(fields)
    count = fields.optional_integer("top_n")
    if count is not None and count < 1:
        raise InvalidField(f"top_n must be positive, not {count}", "top_n")
    with told_as(EMBEDDED):
        ranking = await services.embeddings.rerank(asked)
    shown = asked.texts if fields.boolean("return_documents", False) else None
    document = {
        "model": asked.model,
        "object": "list",
        "results": _results(ranking, shown)[:count],
        "usage": {
            "prompt_tokens": ranking.metrics.prompt_tokens,
            "total_tokens": ranking.metrics.prompt_tokens,
        },
    }
    return answer(document, content_type=PLAIN_JSON)


def _request(fields: Fields) -> RerankRequest:
    if not fields.text("query"):
        raise InvalidField("query is required", "query")
    texts = tuple(_text(item, path) for path, item in fields.items("documents"))
    if not texts:
        raise InvalidField("documents must be a list of texts", "documents")
    return RerankRequest(
        model=model_name(fields),
        query=fields.text("query"),
        texts=texts,
        truncate=fields.boolean("truncate", True),
        options=options(fields),
        keep_alive_s=keep_alive_s(fields),
    )


def _text(item: object, path: str) -> str:
    text = item.get("text") if isinstance(item, dict) else item
    if not isinstance(text, str):
        raise InvalidField(f"{path} must be a text", path)
    return text


def _results(ranking: Ranking, texts: tuple[str, ...] | None) -> list[JsonObject]:
    order = sorted(enumerate(ranking.scores), key=lambda scored: -scored[1])
    return [
        {"index": index, "relevance_score": score}
        | ({"document": {"text": texts[index]}} if texts else {})
        for index, score in order
    ]
