"""`/openapi.json`: every route with what it takes and what it answers, told from one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from ..chat.request import JsonObject
from ..keys import Scope
from ..services import Services
from .dialect import Dialect, Route
from .edge import answer
from .openapi_schemas import ERRORS, REQUESTS, SCHEMAS

_JSON = "application/json"
# What may befall any request. 500 is not among them: it is a defect wherever it comes.
_ANY_STATUS = ("400", "401", "403", "404", "405", "408", "409", "413", "415", "501", "503")


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of one route."""

    summary: str
    request: str = ""  # a name in `REQUESTS`; empty: no body
    response: str = ""  # a name in `SCHEMAS`; empty: nothing, or text
    stream: str = ""  # the content type of the streamed form
    status: str = "200"
    text: bool = False


_NDJSON, _SSE = "application/x-ndjson", "text/event-stream"
# Readers of server-sent events check each by itself, others the stream's text.
_STREAMED: dict[str, JsonObject] = {
    _NDJSON: {"type": "string"},
    _SSE: {
        "type": ["string", "object"],
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
        "required": ["data"],
    },
}
TOLD: dict[tuple[str, str], Told] = {
    ("POST", "/api/chat"): Told("Chat", "Chat", "NativeAnswer", _NDJSON),
    ("POST", "/api/generate"): Told("Generate", "Generate", "NativeAnswer", _NDJSON),
    ("POST", "/api/embed"): Told("Embed texts", "Embed", "NativeEmbeddings"),
    ("POST", "/api/embeddings"): Told("Embed one text", "NativePrompt", "NativeEmbedding"),
    ("POST", "/api/tokenize"): Told("Tokens of a text", "Tokenize", "Tokens"),
    ("POST", "/api/detokenize"): Told("Text of tokens", "Detokenize", "Text"),
    ("GET", "/api/tags"): Told("List models", response="Tags"),
    ("POST", "/api/show"): Told("Show a model", "Model", "Shown"),
    ("GET", "/api/ps"): Told("List loaded models", response="Tags"),
    ("POST", "/api/create"): Told("Build a model", "Create", "Progress", _NDJSON),
    ("POST", "/api/pull"): Told("Download a model", "Model", "Progress", _NDJSON),
    ("POST", "/api/push"): Told("Upload a model", "Model", "Progress", _NDJSON),
    ("POST", "/api/copy"): Told("Copy a model", "Copy"),
    ("DELETE", "/api/delete"): Told("Delete a model", "Model"),
    ("HEAD", "/api/blobs/{digest}"): Told("Is this blob here?"),
    ("POST", "/api/blobs/{digest}"): Told("Upload a blob", "Bytes", status="201"),
    ("GET", "/api/version"): Told("The API's version", response="Version"),
    ("GET", "/api/status"): Told("State of the cloud: none", response="Any"),
    ("GET", "/"): Told("Is anybody there?", text=True),
    ("GET", "/health"): Told("Is it well?", response="Health"),
    ("GET", "/metrics"): Told("Metrics for Prometheus", text=True),
    ("GET", "/openapi.json"): Told("This document", response="Any"),
    ("POST", "/v1/chat/completions"): Told("Chat", "OpenAIChat", "OpenAIAnswer", _SSE),
    ("POST", "/v1/completions"): Told("Complete", "OpenAICompletion", "OpenAIAnswer", _SSE),
    ("POST", "/v1/embeddings"): Told("Embed", "OpenAIEmbed", "OpenAIList"),
    ("GET", "/v1/models"): Told("List models", response="ModelList"),
    ("GET", "/v1/models/{model}"): Told("One model", response="ModelEntry"),
    ("POST", "/v1/audio/transcriptions"): Told("Transcribe: 501", "Form", "Any"),
    ("POST", "/v1/rerank"): Told("Rank documents", "Rerank", "Ranking"),
    ("POST", "/v1/responses"): Told("Respond", "OpenAIResponse", "Response", _SSE),
    ("GET", "/v1/responses/{id}"): Told("A kept response", response="Response"),
    ("DELETE", "/v1/responses/{id}"): Told("Forget a response", response="Any"),
    ("POST", "/v1/messages"): Told("Chat", "Messages", "Message", _SSE),
    ("POST", "/v1/messages/count_tokens"): Told("Count tokens", "CountTokens", "TokenCount"),
}


def openapi_document(dialects: Iterable[Dialect], version: str) -> JsonObject:
    """The whole document. Routes of qm's own command line (/qm) are no API and left out."""
    paths: dict[str, JsonObject] = {}
    for dialect in dialects:
        for route in dialect.routes:
            told = TOLD.get((route.method, told_path(route)))
            if told is not None:
                operation = _operation(dialect, route, told)
                paths.setdefault(told_path(route), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "qm", "version": version},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS | REQUESTS | ERRORS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def openapi_dialect(dialects: tuple[Dialect, ...], version: str) -> Dialect:
    """The route that tells the others."""

    async def tell(_request: web.Request, _services: Services) -> web.Response:
        return answer(openapi_document((*dialects, told), version))

    told = Dialect("openapi", (Route("GET", "/openapi.json", tell),), scope=Scope.CHAT)
    return told


def told_path(route: Route) -> str:
    """The path as OpenAPI writes it: no patterns."""
    return route.path.replace("{model:.+}", "{model}")


def _operation(dialect: Dialect, route: Route, told: Told) -> JsonObject:
    operation: JsonObject = {
        "summary": told.summary,
        "tags": [dialect.name],
        "responses": {told.status: _success(told)} | _failures(dialect, route),
    }
    if told.status == "201":
        operation["responses"]["200"] = {"description": "it is here already"}
    names = [part[1:-1] for part in told_path(route).split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if told.request:
        operation["requestBody"] = _body(told.request)
    return operation


def _body(name: str) -> JsonObject:
    kinds = {"Bytes": "application/octet-stream", "Form": "multipart/form-data"}
    content = {kinds.get(name, _JSON): {"schema": _reference(name)}}
    return {"required": True, "content": content}


def _success(told: Told) -> JsonObject:
    content: JsonObject = {}
    if told.response:
        content[_JSON] = {"schema": _reference(told.response)}
    if told.stream:
        content[told.stream] = {"schema": _STREAMED[told.stream]}
    if told.text:
        content["text/plain"] = {"schema": {"type": "string"}}
    return {"description": "done"} | ({"content": content} if content else {})


def _failures(dialect: Dialect, route: Route) -> JsonObject:
    if route.method == "HEAD":
        return {status: {"description": "refused"} for status in _ANY_STATUS}
    kinds = {"openai": "OpenAIError", "responses": "OpenAIError", "anthropic": "AnthropicError"}
    schema = _reference(kinds.get(dialect.name, "NativeError"))
    content = {_JSON: {"schema": schema}, "text/plain": {"schema": {"type": "string"}}}
    return {status: {"description": "refused", "content": content} for status in _ANY_STATUS}


def _reference(name: str) -> JsonObject:
    return {"$ref": f"#/components/schemas/{name}"}
