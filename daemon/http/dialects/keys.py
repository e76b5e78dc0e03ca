"""Routes by which `qm key` adds, lists and removes API keys: over the unix socket only."""

from __future__ import annotations

from aiohttp import web

from ...keys import InvalidKey, Key, Scope, key_ring
from ...services import Services
from ..dialect import Dialect, Route
from ..edge import answer, read_fields, require_local
from ..fields import JsonObject


async def _list(request: web.Request, services: Services) -> web.Response:
    require_local(request)
    keys = key_ring(services.settings).all()
    return answer({"keys": [_shown(key) for key in keys]})


async def _add(request: web.Request, services: Services) -> web.Response:
    require_local(request)
    fields = await read_fields(request)
    ring, name = key_ring(services.settings), fields.text("name")
    secret = ring.add(name, [_scope(text) for text in fields.texts("scopes")])
    (key,) = [key for key in ring.all() if key.name == name]
    return answer(_shown(key) | {"key": secret}, status=201)


async def _remove(request: web.Request, services: Services) -> web.Response:
    require_local(request)
    name = (await read_fields(request)).text("name")
    key_ring(services.settings).remove(name)
    return answer({"removed": name})


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError as error:
        raise InvalidKey(f"a scope is one of {', '.join(Scope)}, not {text[:100]!r}") from error


def _shown(key: Key) -> JsonObject:
    return {"name": key.name, "scopes": list(key.scopes), "created": key.created_s}


DIALECT = Dialect(
    name="keys",
    routes=(
        Route("GET", "/qm/keys", _list),
        Route("POST", "/qm/keys", _add),
        Route("POST", "/qm/keys/rm", _remove),
    ),
)
