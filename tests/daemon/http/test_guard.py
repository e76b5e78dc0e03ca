"""What gets through over TCP, how errors look, and that the unix socket needs no headers."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from qm.daemon.http import edge
from qm.daemon.http.dialect import Dialect, Route, install, native_error_body
from qm.daemon.http.edge import Stream, answer, read_fields
from qm.daemon.http.guard import install_guard
from qm.daemon.meter import Meter
from qm.daemon.patience import PATIENCE, Patience
from qm.daemon.services import SERVICES, Lifecycle, Services
from qm.daemon.settings import Settings, load_settings
from qm.store.errors import Conflict

LIMIT_S = 60


class Teapot(Conflict):
    """An error of the handlers below."""


@dataclass(frozen=True)
class StandIn:
    """The services that the guard needs."""

    settings: Settings
    lifecycle: Lifecycle
    meter: Meter


async def _echo(request: web.Request, _services: Services) -> web.Response:
    return answer((await read_fields(request)).folded())


async def _raise(_request: web.Request, _services: Services) -> web.Response:
    raise Teapot("short and stout")


async def _break(_request: web.Request, _services: Services) -> web.Response:
    raise KeyError("a defect")


def _streaming(pieces: Callable[[], AsyncGenerator[bytes]]) -> Any:
    async def handle(request: web.Request, _services: Services) -> web.StreamResponse:
        return await Stream(request).send(pieces())

    return handle


async def _fails_late() -> AsyncGenerator[bytes]:
    yield b'{"n":1}\n'
    raise Teapot("in the middle")


async def _fails_early() -> AsyncGenerator[bytes]:
    raise Teapot("at once")
    yield b""


async def _breaks_late() -> AsyncGenerator[bytes]:
    yield b'{"n":1}\n'
    raise KeyError("a defect")


async def _slow_start() -> AsyncGenerator[bytes]:
    await HEARD[-1].wait()
    raise Teapot("after the headers")
    yield b""


async def _pauses() -> AsyncGenerator[bytes]:
    yield b'{"n":1}\n'
    await HEARD[-1].wait()
    yield b'{"n":2}\n'


HEARD: list[asyncio.Event] = []  # the running test's own, set when its client has the first bytes
CLOSED: list[asyncio.Event] = []  # the running test's own, set when its stream is closed


async def _endless() -> AsyncGenerator[bytes]:
    try:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)
    finally:
        CLOSED[-1].set()


TEST = Dialect(
    "test",
    (
        Route("POST", "/echo", _echo),
        Route("DELETE", "/echo", _echo),
        Route("GET", "/teapot", _raise, head=True),
        Route("GET", "/defect", _break),
        Route("POST", "/late", _streaming(_fails_late)),
        Route("POST", "/early", _streaming(_fails_early)),
        Route("POST", "/breaks", _streaming(_breaks_late)),
        Route("POST", "/slow", _streaming(_slow_start)),
        Route("POST", "/pauses", _streaming(_pauses)),
        Route("POST", "/endless", _streaming(_endless)),
    ),
    native_error_body,
)
OTHER = Dialect(
    "other",
    (Route("POST", "/other/teapot", _raise), Route("POST", "/other/late", _streaming(_fails_late))),
    lambda error, _: {"error": {"message": error.message, "code": error.code}},
)


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[tuple[str, Path]]:
    """A URL and a socket of an application behind the guard."""
    home = Path(tempfile.mkdtemp(prefix="qm-"))  # without keys
    settings = replace(load_settings({}), home=home, **changes)
    app = web.Application(client_max_size=settings.max_body_bytes)
    app[PATIENCE] = Patience(60)
    app[SERVICES] = cast(Services, StandIn(settings, Lifecycle(), Meter()))
    install(app, (TEST, OTHER))
    install_guard(app)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    with tempfile.TemporaryDirectory(prefix="qm-") as directory:
        socket = Path(directory) / "s"
        await web.UnixSite(runner, str(socket)).start()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[-1][1]}", socket
        finally:
            await runner.cleanup()


async def ask(
    url: str, method: str = "POST", *, socket: Path | None = None, **arguments: Any
) -> tuple[int, Mapping[str, str], str]:
    connector = aiohttp.UnixConnector(str(socket)) if socket else None
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, url, allow_redirects=False, **arguments) as response,
    ):
        return response.status, response.headers, await response.text()


EVIL = {"Origin": "https://evil.com"}
LOCAL = {"Origin": "http://localhost:3000"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("origin", ["https://evil.com", "null"])
async def test_strange_origins_are_refused(method: str, origin: str) -> None:
    """403 with nothing in it, also for content types that need no preflight."""
    async with serving() as (url, _):
        for content_type in ("application/json", "text/plain"):
            headers = {"Origin": origin, "Content-Type": content_type}
            status, _headers, body = await ask(f"{url}/echo", method, data="{}", headers=headers)
            assert (status, body) == (403, "")


async def test_rebound_hosts_are_refused() -> None:
    async with serving() as (url, _):
        status, _, body = await ask(f"{url}/echo", data="{}", headers={"Host": "evil.com"})
    assert (status, body) == (403, "")


async def test_browsers_must_send_json() -> None:
    """What a page may send without a preflight is refused, from allowed pages too."""
    async with serving() as (url, _):
        for headers in (LOCAL, {"Sec-Fetch-Site": "cross-site"}):
            plain = headers | {"Content-Type": "text/plain"}
            assert (await ask(f"{url}/echo", data="{}", headers=plain))[0] == 415
            assert (await ask(f"{url}/echo", data="{}", headers=headers | JSON))[0] == 200


async def test_curl_may_send_any_content_type() -> None:
    """`curl -d` sends a form type and Open WebUI text/plain: neither is a browser."""
    async with serving() as (url, _):
        for content_type in ("application/x-www-form-urlencoded", "text/plain"):
            headers = {"Content-Type": content_type}
            status, _, body = await ask(f"{url}/echo", data='{"A":1}', headers=headers)
            assert (status, json.loads(body)) == (200, {"a": 1})


async def test_allowed_pages_read_the_answer() -> None:
    async with serving() as (url, _):
        status, headers, _ = await ask(f"{url}/echo", data="{}", headers=LOCAL | JSON)
        assert status == 200
        assert headers["Access-Control-Allow-Origin"] == LOCAL["Origin"]
        assert headers["Vary"] == "Origin"
        status, headers, _ = await ask(f"{url}/late", data="{}", headers=LOCAL | JSON)
        assert headers["Access-Control-Allow-Origin"] == LOCAL["Origin"]


async def test_preflight() -> None:
    """204 for allowed pages on any path, 403 for others, 405 without an Origin."""
    asked = {"Access-Control-Request-Method": "POST"}
    async with serving() as (url, _):
        for path in ("/echo", "/nowhere"):
            status, headers, _ = await ask(f"{url}{path}", "OPTIONS", headers=LOCAL | asked)
            assert status == 204
            assert "POST" in headers["Access-Control-Allow-Methods"]
            assert "Authorization" in headers["Access-Control-Allow-Headers"]
            assert "Access-Control-Allow-Private-Network" not in headers
        more = asked | {
            "Access-Control-Request-Headers": "x-own, b@d",
            "Access-Control-Request-Private-Network": "true",
        }
        _, headers, _ = await ask(f"{url}/echo", "OPTIONS", headers=LOCAL | more)
        assert headers["Access-Control-Allow-Headers"].endswith(",x-own")
        assert headers["Access-Control-Allow-Private-Network"] == "true"
        assert (await ask(f"{url}/echo", "OPTIONS", headers=EVIL | more))[0] == 403
        assert (await ask(f"{url}/echo", "OPTIONS", headers=asked))[0] == 405


async def test_keys_are_asked_for_on_every_route() -> None:
    async with serving(api_key="secret") as (url, socket):
        for path, method in (("/echo", "POST"), ("/teapot", "GET"), ("/nowhere", "GET")):
            status, headers, body = await ask(f"{url}{path}", method, data="{}")
            assert status == 401
            assert headers["WWW-Authenticate"] == "Bearer"
            assert "API key" in json.loads(body)["error"]
        right = {"Authorization": "Bearer secret"}
        assert (await ask(f"{url}/echo", data="{}", headers=right))[0] == 200
        assert (await ask("http://x/echo", socket=socket, data="{}"))[0] == 200


async def test_the_unix_socket_needs_no_real_host() -> None:
    async with serving() as (_, socket):
        headers = {"Host": "whatever", "Origin": "null"}
        status, _, body = await ask("http://x/echo", socket=socket, data="{}", headers=headers)
    assert (status, body) == (200, "{}")


async def test_large_bodies_are_refused_with_the_limit() -> None:
    """Announced or not, nothing of it is used."""

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 100

    async with serving(max_body_bytes=1000) as (url, _):
        for data in (b"{" + b" " * 2000 + b"}", unannounced()):
            status, _, body = await ask(f"{url}/echo", data=data)
            assert status == 413
            assert "larger than 1000 bytes" in json.loads(body)["error"]


async def test_errors_have_the_shape_of_their_dialect() -> None:
    async with serving() as (url, _):
        status, headers, body = await ask(f"{url}/teapot", "GET")
        assert (status, json.loads(body)) == (409, {"error": "short and stout"})
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        status, _, body = await ask(f"{url}/other/teapot")
        assert json.loads(body) == {"error": {"message": "short and stout", "code": "conflict"}}
        _, _, body = await ask(f"{url}/other/late")
        assert json.loads(body.splitlines()[-1])["error"]["message"] == "in the middle"


async def test_defects_are_answered_without_details() -> None:
    """500 with the id under which the log has the traceback."""
    async with serving() as (url, _):
        status, headers, body = await ask(f"{url}/defect", "GET", headers={"X-Request-Id": "my-id"})
        assert status == 500
        assert headers["X-Request-Id"] == "my-id"
        assert "my-id" in json.loads(body)["error"]
        assert "defect" not in body
        _, headers, _ = await ask(f"{url}/teapot", "GET", headers={"X-Request-Id": "bad id\t"})
        assert headers["X-Request-Id"] != "bad id\t"


async def test_unknown_paths_and_methods_are_plain_text() -> None:
    async with serving() as (url, _):
        status, headers, body = await ask(f"{url}/nowhere", "GET")
        assert (status, body) == (404, "404 page not found")
        assert headers["Content-Type"].startswith("text/plain")
        status, headers, body = await ask(f"{url}/echo", "GET")
        assert (status, body) == (405, "405 method not allowed")
        assert headers["Allow"] == "DELETE, POST"
        status, _, body = await ask(f"{url}/teapot", "HEAD")
        assert (status, body) == (409, "")


async def test_trailing_slashes_are_redirected() -> None:
    async with serving() as (url, _):
        status, headers, _ = await ask(f"{url}/teapot/?a=1", "GET")
        assert (status, headers["Location"]) == (301, "/teapot?a=1")
        assert (await ask(f"{url}/echo/", data="{}"))[0] == 307
        assert (await ask(f"{url}/nowhere/", "GET"))[0] == 404
        assert (await ask(f"{url}//", "GET"))[0] == 404


async def test_a_stream_that_fails_at_once_has_a_status() -> None:
    async with serving() as (url, _):
        status, headers, body = await ask(f"{url}/early")
    assert (status, json.loads(body)) == (409, {"error": "at once"})
    assert headers["Content-Type"].startswith("application/json")


async def test_a_stream_that_fails_later_says_so_in_its_last_line() -> None:
    """Never just an end; a defect of ours is told without details."""
    async with serving() as (url, _):
        status, headers, body = await ask(f"{url}/late")
        assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
        assert body == '{"n":1}\n{"error":"in the middle"}\n'
        _, _, body = await ask(f"{url}/breaks")
        assert "internal error" in json.loads(body.splitlines()[-1])["error"]


async def test_headers_go_out_while_nothing_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with a limit on the first byte keeps waiting; the error comes in-stream then."""
    monkeypatch.setattr(edge, "EARLY_HEADERS_S", 0.01)
    HEARD.append(asyncio.Event())
    async with (
        serving() as (url, _),
        aiohttp.ClientSession() as session,
        asyncio.timeout(LIMIT_S),
        session.post(f"{url}/slow") as response,
    ):
        HEARD[-1].set()
        body = await response.text()
    assert (response.status, body) == (200, '{"error":"after the headers"}\n')


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_headers_come_with_the_first_piece(version: str) -> None:
    """A client is woken once for both, and gets the piece before there is another."""
    HEARD.append(asyncio.Event())
    async with serving() as (url, _), asyncio.timeout(LIMIT_S):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /pauses HTTP/{version}\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        first = await reader.read(65_536)
        if b'"n"' not in first and version == "1.0":  # without chunks headers can't wait
            first += await reader.readuntil(b"}\n")
        assert first.startswith(f"HTTP/{version} 200 OK".encode())
        assert b'{"n":1}' in first
        HEARD[-1].set()
        assert b'{"n":2}' in await reader.readuntil(b'{"n":2}')
        writer.close()
        await writer.wait_closed()


async def test_hanging_up_closes_the_source() -> None:
    """The runner behind a stream stops when its client is gone."""
    CLOSED.append(asyncio.Event())
    async with serving() as (url, _), aiohttp.ClientSession() as session:
        response = await session.post(f"{url}/endless")
        await response.content.readany()
        response.close()
        async with asyncio.timeout(5):
            await CLOSED[-1].wait()


async def test_a_client_that_stops_reading_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "WRITE_LIMIT_S", 0.1)
    CLOSED.append(asyncio.Event())
    async with serving() as (url, _), aiohttp.ClientSession(read_bufsize=1) as session:
        response = await session.post(f"{url}/endless")
        async with asyncio.timeout(30):
            await CLOSED[-1].wait()
        response.close()
