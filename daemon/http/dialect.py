"""What a dialect is: routes, and the shape of its errors. One module each, listed in `routes.py`.

A dialect only translates: a client's document into a `chat.request.Request`, the events that
answer it into the client's format. What a request means is decided in `daemon.chat`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web
from qm.store.errors import QmError

from ..services import SERVICES, Services

Handler: TypeAlias = Callable[[web.Request, Services], Awaitable[web.StreamResponse]]
PlainHandler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path and method; `head` answers HEAD too."""

    method: str
    path: str
    handler: Handler
    head: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """`error_body` prints an error's JSON document as this dialect's clients read it."""

    name: str
    routes: tuple[Route, ...]
    error_body: Callable[[QmError], object]


ERROR_BODIES: web.AppKey[dict[PlainHandler, Callable[[QmError], object]]] = web.AppKey("errors")


def native_error_body(error: QmError) -> object:
    """The shape where no dialect says otherwise."""
    return {"error": error.message}


def install(app: web.Application, dialects: tuple[Dialect, ...]) -> None:
    """Adds every route, and remembers whose errors look how."""
    app[ERROR_BODIES] = {}
    for dialect in dialects:
        for route in dialect.routes:
            handler = _with_services(route.handler)
            app[ERROR_BODIES][handler] = dialect.error_body
            app.router.add_route(route.method, route.path, handler)
            if route.head:
                app.router.add_route("HEAD", route.path, handler)


def error_body(request: web.Request, error: QmError) -> object:
    """The error as the dialect of the requested route prints it."""
    render = request.app[ERROR_BODIES].get(request.match_info.handler, native_error_body)
    return render(error)


def _with_services(handler: Handler) -> PlainHandler:
    async def call(request: web.Request) -> web.StreamResponse:
        return await handler(request, request.app[SERVICES])

    return call
