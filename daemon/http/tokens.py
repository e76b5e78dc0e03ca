"""Two routes that Ollama lacks: the tokens of a text, and back."""

from __future__ import annotations

from aiohttp import web

from ..keys import Scope
from ..services import Services
from .dialect import Dialect, Route
from .edge import answer, read_fields
from .fields import WrongType
from .ollama_request import keep_alive_s, model_name


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
    tokens = [_token(item, path) for path, item in fields.items("tokens", "int")]
    text = await services.tokens.detokenize(model, tokens, keep_alive_s=keep_alive_s(fields))
    return answer({"model": model, "text": text})


def _token(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise WrongType(path, "int", value)
    return value


TOKENS = Dialect(
    name="tokens",
    scope=Scope.CHAT,
    routes=(
        Route("POST", "/api/tokenize", _tokenize),
        Route("POST", "/api/detokenize", _detokenize),
    ),
)
