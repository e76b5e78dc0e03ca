"""Connections that close one of their two sides, and bytes that are no request."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from qm.daemon.connection import BadBody
from qm.daemon.patience import PATIENCE, Patience, PatientRunner

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
_LIMIT_S = 60.0


class Server:
    """Answers "done" once `may_answer` is set; the other events tell what it is at."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.begun = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.arrived.set()
        try:
            await request.read()
            self.begun.set()
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        except BadBody as error:
            return web.Response(status=error.status, text=error.message)
        return web.Response(text="done")

    @asynccontextmanager
    async def listening(self, listener: socket.socket) -> AsyncIterator[None]:
        app = web.Application()
        app[PATIENCE] = Patience(_LIMIT_S)
        app.router.add_route("*", "/", self.answer)
        runner = PatientRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.SockSite(runner, listener).start()
        try:
            yield
        finally:
            await runner.cleanup()


def listener_of(family: str, directory: Path) -> socket.socket:
    if family == "tcp":
        return socket.create_server(("127.0.0.1", 0))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "s"))
    listener.listen()
    return listener


async def connected(listener: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if listener.family == socket.AF_UNIX:
        return await asyncio.open_unix_connection(listener.getsockname())
    return await asyncio.open_connection(*listener.getsockname())


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("requests", [GET, POST, GET + POST + GET])
async def test_who_only_listens_gets_every_answer(
    family: str, requests: bytes, tmp_path: Path
) -> None:
    """Whole requests, then nothing more to come: answered in order, then hung up on."""
    server, listener = Server(), listener_of(family, tmp_path)
    async with asyncio.timeout(_LIMIT_S), server.listening(listener):
        reader, writer = await connected(listener)
        writer.write(requests)
        writer.write_eof()
        await server.begun.wait()
        await asyncio.sleep(0.05)  # long enough to be looked at several times
        server.may_answer.set()
        told = await reader.read()
        writer.close()
    assert told.count(b"HTTP/1.1 200 OK") == told.count(b"done") == requests.count(b"HTTP/1.1")
    assert not server.cancelled.is_set()


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("half_first", [False, True])
async def test_who_is_gone_is_not_worked_for(family: str, half_first: bool, tmp_path: Path) -> None:
    """Before the first byte of an answer, too, and after it had closed one side."""
    server, listener = Server(), listener_of(family, tmp_path)
    async with asyncio.timeout(_LIMIT_S), server.listening(listener):
        _, writer = await connected(listener)
        writer.write(POST)
        if half_first:
            writer.write_eof()
        await server.begun.wait()
        writer.close()
        await server.cancelled.wait()


async def test_a_request_that_can_not_come_is_given_up(tmp_path: Path) -> None:
    """Half a body and no more: nothing to wait for."""
    listener = listener_of("tcp", tmp_path)
    async with asyncio.timeout(_LIMIT_S), Server().listening(listener):
        reader, writer = await connected(listener)
        writer.write(POST[:-2])
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_a_line_in_the_log(
    data: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """400 for the client; for us one line of bounded length, and no traceback."""
    listener = listener_of("tcp", tmp_path)
    caplog.set_level(logging.DEBUG)
    async with asyncio.timeout(_LIMIT_S), Server().listening(listener):
        reader, writer = await connected(listener)
        writer.write(data)
        assert (await reader.read()).startswith(b"HTTP/1.0 400")
        writer.close()
    (line,) = [record for record in caplog.records if record.name != "asyncio"]
    assert (line.getMessage(), line.exc_info) == ("malformed_request", None)
    assert len(str(line.__dict__["facts"])) < 300


async def test_a_body_that_breaks_off_is_answered_at_once(tmp_path: Path) -> None:
    """Chunks that are none, sent while the handler waits for them; then nobody is waited for."""
    server, listener = Server(), listener_of("tcp", tmp_path)
    async with asyncio.timeout(_LIMIT_S), server.listening(listener):
        reader, writer = await connected(listener)
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"3\r\nabc\r\n")
        await server.arrived.wait()
        writer.write(b"zz\r\nabc")
        told = await reader.read()
        assert told.startswith(b"HTTP/1.1 400")
        assert b"the body can't be read: Invalid character in chunk size" in told
        writer.close()
