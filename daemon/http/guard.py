"""Who gets through over TCP, and the rim at which every error becomes an answer."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler
from qm.store.errors import QmError

from ..keys import asks_for_keys, key_ring
from ..logs import Log
from ..patience import PATIENCE
from ..services import SERVICES
from ..settings import Settings, capture_directory
from .access import AccessRules, is_authorised, is_same_origin, key_in, rules_for
from .capture import Captures, captured
from .dialect import REQUEST_ID, error_body, id_headers, scope_of
from .edge import STREAM, Stream, answer, is_local

log = Log("http")

HINT = "X-Qm-Hint"  # what a person may try, which our command line adds to the error
CAPTURES = web.AppKey("captures", Captures)
CORS_ORIGIN = web.RequestKey("cors_origin", str)

_REQUEST_ID = re.compile(r"[\w.:-]{1,64}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_LOGGED_CHARACTERS = 200
_UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Headers that the official SDKs send; a browser asks about each of them first.
_CORS_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,X-Api-Key,Anthropic-Version,"
    "Anthropic-Beta,Anthropic-Dangerous-Direct-Browser-Access,Openai-Beta,X-Stainless-Arch,"
    "X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,"
    "X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,"
    "X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout"
)


class Unauthorised(QmError):
    """A TCP client gave no key, or a wrong one."""

    status = 401
    code = "unauthorised"


class Forbidden(QmError):
    """The key is good, for other routes."""

    status = 403
    code = "forbidden"


class UnsupportedMediaType(QmError):
    """A browser sent what a page may send without asking first."""

    status = 415
    code = "unsupported_media_type"


class InternalError(QmError):
    """Something that no code of ours expected; the log has it under the request's id."""


def install_guard(app: web.Application) -> None:
    """Puts the rim and the guard around every handler of `app`."""
    app[CAPTURES] = Captures()
    app.middlewares.extend((_rim, _guard))
    app.on_response_prepare.append(_add_headers)


@web.middleware
async def _rim(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts and logs the request, and turns what was raised into an answer."""
    started = time.monotonic()
    request.app[PATIENCE].heard(request.protocol)
    given = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    request.app[SERVICES].lifecycle.requests += 1
    status = 499  # stays when the client hangs up
    try:
        response = await _answered(request, handler)
        status = response.status
    finally:
        took_s = time.monotonic() - started
        route = request.match_info.route.resource
        request.app[SERVICES].meter.request(
            request.method, route.canonical if route else "none", status, took_s
        )
        log.info(
            "request",
            method=request.method,
            path=request.path[:_LOGGED_CHARACTERS],
            status=status,
            ms=round(took_s * 1000, 1),
            id=request[REQUEST_ID],
        )
        await _capture(request, status, took_s)
    return response


async def _capture(request: web.Request, status: int, took_s: float) -> None:
    """Keeps the request for who debugs; that it can't be kept is no reason to fail it."""
    settings, captures = request.app[SERVICES].settings, request.app[CAPTURES]
    if not settings.capture or request.path.startswith("/qm/"):
        return
    try:
        document = captured(request, request[REQUEST_ID], status, took_s)
        directory = capture_directory(settings)
        await asyncio.to_thread(captures.keep, document, directory, settings.capture)
    except OSError as error:
        log.warning("not_captured", id=request[REQUEST_ID], error=error)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        return await _plain(request, refusal)
    except QmError as error:
        return await _failed(request, error)
    except ConnectionError:
        raise asyncio.CancelledError from None  # the client hung up: nobody to answer
    except Exception:  # the rim: whatever happened, the client gets an answer
        log.exception("request_failed", id=request[REQUEST_ID], path=request.path)
        message = f"internal error; see the log (qm logs) for request {request[REQUEST_ID]}"
        return await _failed(request, InternalError(message))


async def _failed(request: web.Request, error: QmError) -> web.StreamResponse:
    """The error as status and document, or as the last piece of a stream that has begun."""
    stream: Stream | None = request.get(STREAM)
    if stream is not None and stream.response.prepared:
        log.warning("stream_failed", id=request[REQUEST_ID], code=error.code)
        return await stream.fail(error)
    response = answer(error_body(request, error), status=error.status)
    if error.hint:
        response.headers[HINT] = error.hint
    if error.status == Unauthorised.status:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _plain(request: web.Request, refusal: web.HTTPException) -> web.Response:
    """404 and 405 as text, and the redirect of a path with a trailing slash."""
    if refusal.status == 404:
        location = await _without_slash(request)
        if location:
            status = 301 if request.method == "GET" else 307
            return web.Response(status=status, headers={"Location": location})
        return web.Response(status=404, text="404 page not found")
    if isinstance(refusal, web.HTTPMethodNotAllowed):
        allowed = {"Allow": ", ".join(sorted(refusal.allowed_methods))}
        return web.Response(status=405, text="405 method not allowed", headers=allowed)
    return web.Response(status=refusal.status, text=refusal.reason)


async def _without_slash(request: web.Request) -> str:
    """Where the path leads without its trailing slash; empty when nowhere."""
    path = request.path.rstrip("/")
    if not path or path == request.path:
        return ""
    url = request.rel_url.with_path(path, keep_query=True)
    match = await request.app.router.resolve(request.clone(rel_url=url))
    return "" if match.http_exception else str(url)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets through what comes over the unix socket; checks the rest."""
    if is_local(request):
        return await handler(request)
    services = request.app[SERVICES]
    settings = services.settings
    rules = rules_for(settings.allowed_hosts, settings.origins, services.lifecycle.address)
    refusal = _refusal(request, rules)
    if refusal is not None:
        return refusal
    if asks_for_keys(settings):
        _check_key(request, settings)
    _check_content_type(request)
    return await handler(request)


def _check_key(request: web.Request, settings: Settings) -> None:
    """Raises Unauthorised, and Forbidden for a key that opens other routes only."""
    if is_authorised(request.headers, settings.api_keys()):
        return
    key = key_ring(settings).find(key_in(request.headers))
    if key is None:
        raise Unauthorised("a valid API key is required: Authorization: Bearer <key>")
    scope = scope_of(request)
    if not key.allows(scope):
        raise Forbidden(f"the key {key.name!r} does not open this: it needs the scope {scope}")


def _refusal(request: web.Request, rules: AccessRules) -> web.Response | None:
    """The answer to a strange Host or Origin, or to a preflight; None lets the request on."""
    host, origin = request.headers.get("Host", ""), request.headers.get("Origin", "")
    if not rules.allows_host(host):
        log.warning("host_refused", host=host[:_LOGGED_CHARACTERS])
        return web.Response(status=403)
    if not origin or is_same_origin(origin, host):
        return None
    if not rules.allows_origin(origin):
        log.warning("origin_refused", origin=origin[:_LOGGED_CHARACTERS])
        return web.Response(status=403)
    request[CORS_ORIGIN] = origin
    return _preflight(request.headers) if request.method == "OPTIONS" else None


def _preflight(asked: Mapping[str, str]) -> web.Response:
    """What a page of an origin that may call us may send: any header that it asks for.

    From a public page to this machine Chrome asks for the private network, too.
    """
    wanted = asked.get("Access-Control-Request-Headers", "")
    named = [name for name in wanted.replace(" ", "").split(",") if _HEADER_NAME.fullmatch(name)]
    headers = {
        "Access-Control-Allow-Headers": ",".join((_CORS_HEADERS, *named)),
        "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
        "Access-Control-Max-Age": "43200",
    }
    if asked.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)


def _check_content_type(request: web.Request) -> None:
    """Refuses what a page can send without a preflight.

    Only browsers send these headers; `curl -d` sends a form type and must get through.
    """
    names = {name.lower() for name in request.headers}
    from_browser = "origin" in names or any(name.startswith("sec-fetch-") for name in names)
    if request.method not in _UNSAFE_METHODS or not from_browser:
        return
    if "content-type" not in names and not request.body_exists:
        return
    is_upload = request.path.startswith("/api/blobs/")
    if request.content_type == ("application/octet-stream" if is_upload else "application/json"):
        return
    raise UnsupportedMediaType("from a browser this needs Content-Type: application/json")


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    if REQUEST_ID in request:  # aiohttp refuses some before anybody counts them
        response.headers.update(id_headers(request))
    origin = request.get(CORS_ORIGIN)
    if origin:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers.add("Vary", "Origin")
