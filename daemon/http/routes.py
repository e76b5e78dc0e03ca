"""Every dialect that the daemon speaks. A new one is a module of its own and a line here."""

from __future__ import annotations

from aiohttp import web

from .admin import ADMIN, VERSION
from .anthropic import ANTHROPIC
from .dialect import install
from .guard import install_guard
from .key_routes import KEYS
from .ollama import OLLAMA
from .openai import OPENAI
from .openapi import openapi_dialect
from .operations import OPERATIONS
from .responses import MEMORY, RESPONSES
from .responses_memory import ResponseMemory
from .tokens import TOKENS

_SPOKEN = (OLLAMA, OPENAI, RESPONSES, ANTHROPIC, TOKENS, OPERATIONS, ADMIN, KEYS)
DIALECTS = (*_SPOKEN, openapi_dialect(_SPOKEN, VERSION))


def install_http(app: web.Application) -> None:
    """Puts routes, guard and error rim into `app`, which must hold `SERVICES` when it runs."""
    app[MEMORY] = ResponseMemory()
    install(app, DIALECTS)
    install_guard(app)
