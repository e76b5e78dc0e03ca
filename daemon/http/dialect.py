"""What a dialect is: routes, and the shape of its errors. One module each, in `dialects/`.

A dialect only translates: a client's document into a `chat.request.Request`, the events that
answer it into the client's format. What a request means is decided in `daemon.chat`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from aiohttp import web
from qm.store.errors import QmError

from ..keys import Scope
from ..services import SERVICES, Services
from .schema import NATIVE_ERROR, Schema, Told

Handler: TypeAlias = Callable[[web.Request, Services], Awaitable[web.StreamResponse]]
PlainHandler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path and method; `head` answers HEAD too."""

    method: str
    path: str
    handler: Handler
    head: bool = False
    scope: Scope | None = None  # of a key that opens it; None: the dialect's
    told: Told | None = None  # for `/openapi.json`; None: no public API


def keep_nothing(_app: web.Application) -> None:
    """What most dialects keep in the application."""


def native_error_body(error: QmError, _request_id: str) -> object:
    """The shape where no dialect says otherwise."""
    return {"error": error.message}


def json_line(body: object) -> bytes:
    """How a native stream ends that fails: with the error as its last line."""
    return msgspec.json.encode(body) + b"\n"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A dialect's routes and errors.

    `error_body` prints an error's JSON document, given the request's id, as this dialect's clients
    read it; `stream_error` makes of such a document the last piece of a stream that fails.
    `id_headers` are where its clients look for the request's id, besides X-Request-Id. `prepare`
    puts what the dialect remembers between requests into the application.
    """

    name: str
    routes: tuple[Route, ...]
    error_body: Callable[[QmError, str], object] = native_error_body
    stream_error: Callable[[object], bytes] = json_line
    scope: Scope = Scope.MANAGE
    id_headers: Callable[[str], Mapping[str, str]] = lambda _request_id: {}
    error_schema: Schema = NATIVE_ERROR
    prepare: Callable[[web.Application], None] = keep_nothing


@dataclass(frozen=True, slots=True)
class Spoken:
    """What holds for one handler."""

    dialect: Dialect
    scope: Scope


NOWHERE = Spoken(Dialect("native", ()), Scope.CHAT)  # paths that lead nowhere, too
SPOKEN: web.AppKey[tuple[Dialect, ...]] = web.AppKey("dialects")
HANDLERS: web.AppKey[dict[PlainHandler, Spoken]] = web.AppKey("handlers")
REQUEST_ID = web.RequestKey("request_id", str)


def install(app: web.Application, dialects: tuple[Dialect, ...]) -> None:
    """Adds every route, and remembers whose errors look how."""
    app[SPOKEN] = dialects
    app[HANDLERS] = {}
    for dialect in dialects:
        dialect.prepare(app)
        for route in dialect.routes:
            handler = _with_services(route.handler)
            app[HANDLERS][handler] = Spoken(dialect, route.scope or dialect.scope)
            app.router.add_route(route.method, route.path, handler)
            if route.head:
                app.router.add_route("HEAD", route.path, handler)


def error_body(request: web.Request, error: QmError) -> object:
    """The error as the dialect of the requested route prints it."""
    return _spoken(request).dialect.error_body(error, request.get(REQUEST_ID, ""))


def stream_error(request: web.Request, error: QmError) -> bytes:
    """The error as the last piece of a stream in the dialect of the requested route."""
    return _spoken(request).dialect.stream_error(error_body(request, error))


def id_headers(request: web.Request) -> Mapping[str, str]:
    """The headers that tell the request's id, for any client and for the dialect's own."""
    request_id = request.get(REQUEST_ID, "")
    return {"X-Request-Id": request_id, **_spoken(request).dialect.id_headers(request_id)}


def scope_of(request: web.Request) -> Scope:
    """What a key must be good for to open the requested route."""
    return _spoken(request).scope


def _spoken(request: web.Request) -> Spoken:
    return request.app[HANDLERS].get(request.match_info.handler, NOWHERE)


def _with_services(handler: Handler) -> PlainHandler:
    async def call(request: web.Request) -> web.StreamResponse:
        return await handler(request, request.app[SERVICES])

    return call
