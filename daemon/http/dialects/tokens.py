"""Two routes that Ollama lacks: the tokens of a text, and back."""

from __future__ import annotations

from aiohttp import web

from ...chat.request import JsonObject
from ...keys import Scope
from ...services import Services
from ..dialect import Dialect, Route
from ..edge import answer, read_fields
from ..ollama_request import keep_alive_s, model_name, token
from ..schema import (
    BROKEN,
    FLAG,
    KEEP_ALIVE,
    MAYBE_TEXT,
    NAMED,
    TEXT,
    TOKEN,
    TOKENS,
    Schema,
    Told,
    shape,
)

_TO_TOKENIZE = Schema(
    "Tokenize", shape(NAMED, text=MAYBE_TEXT, add_special=FLAG, keep_alive=KEEP_ALIVE)
)
_MAYBE_TOKENS: JsonObject = {"type": ["array", "null"], "items": TOKEN}
_TO_DETOKENIZE = Schema("Detokenize", shape(NAMED, tokens=_MAYBE_TOKENS, keep_alive=KEEP_ALIVE))
_TOKENS = Schema("Tokens", shape({"model": TEXT, "tokens": TOKENS}))
_TEXT = Schema("Text", shape({"model": TEXT, "text": TEXT}))


async def _tokenize(request: web.Request, services: Services) -> web.Response:
    fields = await read_fields(request, "api.TokenizeRequest")
    model = model_name(fields)
    tokens = await services.tokens.tokenize(
        model,
        fields.text("text") or fields.text("content"),
        special=fields.boolean("add_special", True),
        keep_alive_s=keep_alive_s(fields),
    )
    return answer({"model": model, "tokens": tokens})


async def _detokenize(request: web.Request, services: Services) -> web.Response:
    fields = await read_fields(request, "api.DetokenizeRequest")
    model = model_name(fields)
    tokens = [token(item, path) for path, item in fields.items("tokens", "int")]
    text = await services.tokens.detokenize(model, tokens, keep_alive_s=keep_alive_s(fields))
    return answer({"model": model, "text": text})


DIALECT = Dialect(
    name="tokens",
    scope=Scope.CHAT,
    routes=(
        Route(
            "POST",
            "/api/tokenize",
            _tokenize,
            told=Told("Tokens of a text", _TO_TOKENIZE, _TOKENS, failures=BROKEN),
        ),
        Route(
            "POST",
            "/api/detokenize",
            _detokenize,
            told=Told("Text of tokens", _TO_DETOKENIZE, _TEXT, failures=BROKEN),
        ),
    ),
)
