"""Bodies in, documents and streams out: what every dialect needs of HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import msgspec
from aiohttp import HttpVersion11, web
from qm.store.errors import QmError
from qm.store.pull.reference import of_hub

from ..network import HEADER, from_header
from ..patience import in_time
from ..services import SERVICES
from .capture import BODY
from .dialect import stream_error
from .encoding import BodyTooLarge, is_plain, unpacked
from .fields import Fields, JsonObject, decode

JSON = "application/json; charset=utf-8"
PLAIN_JSON = "application/json"  # /v1 and progress routes come without a charset
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
# Until then an error still decides the status. Past it headers go out, because clients with a
# limit on the first byte (Cline: 30 s) would give up while a large model loads.
EARLY_HEADERS_S = 10.0
# A client that reads nothing for this long is gone for us; its slot goes to others.
WRITE_LIMIT_S = 120.0
_LONG_BODY_BYTES = 1_048_576  # reading so much takes long: not between other answers' tokens
_SURELY_TAKEN_BYTES = 16_384  # by an empty buffer: no limit is needed, and a limit takes time

STREAM: web.RequestKey[Stream]


class ClientStalled(ConnectionError):
    """The client has stopped reading its stream."""


async def read_fields(
    request: web.Request, of: str = "api.Request", empty: str = "missing request body"
) -> Fields:
    """The request's JSON object, of the type `of` in the words of errors.

    Raises BadJson, WrongType, TooManyValues and BodyTooLarge.
    """
    body = await read_body(request)
    if len(body) < _LONG_BODY_BYTES:
        document = decode(body, of, empty)
    else:
        document = await asyncio.to_thread(decode, body, of, empty)
    return Fields(document, of.rpartition(".")[2])


async def read_body(request: web.Request) -> bytes:
    """The whole body, at most as long as the application allows. Raises BodyTooLarge."""
    limit = request.client_max_size
    if limit and (request.content_length or 0) > limit:
        raise BodyTooLarge(limit)
    try:
        if request.content.is_eof():  # it came with its head, as most do: no limit is needed
            body = await request.read()
        else:
            body = await _read_in_time(request)
    except web.HTTPRequestEntityTooLarge as error:
        raise BodyTooLarge(limit) from error
    request[BODY] = body
    encoding = request.headers.get("Content-Encoding", "")
    if is_plain(encoding):
        return body
    return await asyncio.to_thread(unpacked, body, encoding, limit)


async def _read_in_time(request: web.Request) -> bytes:
    with in_time(limit_s := request.app[SERVICES].settings.read_timeout_s):
        async with asyncio.timeout(limit_s):
            return await request.read()


def answer(document: object, *, status: int = 200, content_type: str = JSON) -> web.Response:
    """One JSON document."""
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, headers={"Content-Type": content_type})


def line(document: JsonObject) -> bytes:
    """One line of NDJSON."""
    return msgspec.json.encode(document) + b"\n"


def sse(document: object, event: str = "") -> bytes:
    """One server-sent event, named or not."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + msgspec.json.encode(document) + b"\n\n"


class Stream:
    """An answer that is sent as it grows. An error after the first byte becomes its last piece.

    Its headers go out with its first piece, so that the client is woken once, and has the piece.
    """

    def __init__(self, request: web.Request, content_type: str = NDJSON) -> None:
        headers = {"Content-Type": content_type}
        if content_type == SSE:
            headers["Cache-Control"] = "no-cache"
        self.response = _unsent_response(request, headers)
        self._request = request
        request[STREAM] = self

    async def send(self, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
        """Sends all pieces; `pieces` is closed at the end, however that comes."""
        async with aclosing(pieces):
            async with self._opened_late():
                first = await anext(pieces, b"")
            await self.response.prepare(self._request)
            await self._write(first)
            async for piece in pieces:
                await self._write(piece)
        await self.response.write_eof()
        return self.response

    async def fail(self, error: QmError) -> web.StreamResponse:
        """Ends the stream with `error`, as its dialect prints it."""
        with suppress(ConnectionError):
            await self._write(stream_error(self._request, error))
            await self.response.write_eof()
        return self.response

    @asynccontextmanager
    async def _opened_late(self) -> AsyncIterator[None]:
        """Opens while what is inside takes long. Nothing is started where it doesn't."""
        tasks: list[asyncio.Task[None]] = []

        def open_now() -> None:
            tasks.append(asyncio.create_task(self._open()))

        timer = asyncio.get_running_loop().call_later(EARLY_HEADERS_S, open_now)
        try:
            yield
        finally:
            timer.cancel()
            for task in tasks:
                task.cancel()
                await asyncio.wait({task})

    async def _open(self) -> None:
        writer = await self.response.prepare(self._request)
        if writer is not None:
            writer.send_headers()

    async def _write(self, piece: bytes) -> None:
        if piece:
            if self._is_read and len(piece) < _SURELY_TAKEN_BYTES:
                await self.response.write(piece)
                return
            try:
                async with asyncio.timeout(WRITE_LIMIT_S):
                    await self.response.write(piece)
            except TimeoutError as error:
                raise ClientStalled from error

    @property
    def _is_read(self) -> bool:
        """Whether the client has taken all that was written, so that nobody waits for it."""
        transport = self._request.transport
        return transport is not None and not transport.get_write_buffer_size()


def _unsent_response(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    """One that keeps its headers until it has something to send with them, where HTTP allows."""
    if request.version < HttpVersion11:
        return web.StreamResponse(headers=headers)
    response = web.Response(headers=headers)
    response.enable_chunked_encoding()
    return response


STREAM = web.RequestKey("stream", Stream)


class LocalOnly(QmError):
    """Only a process of this user, over the unix socket, may ask for this."""

    status = 403
    code = "local_only"


def require_local(request: web.Request) -> None:
    """Raises LocalOnly for what came over TCP."""
    if not is_local(request):
        raise LocalOnly("this works over the unix socket only")


def is_local(request: web.Request) -> bool:
    """Whether the request came over the unix socket, whose peer is this user."""
    transport = request.transport
    return transport is not None and isinstance(transport.get_extra_info("sockname"), str | bytes)


def network_of(request: web.Request) -> dict[str, str]:
    """What a command of this user says about tokens, proxies and so on; nobody else is heard."""
    return from_header(request.headers.get(HEADER, "")) if is_local(request) else {}


def as_on_hub(request: web.Request, text: str) -> str:
    """What names a model, by the hub's own address where it is a page of the mirror in use."""
    network = os.environ | network_of(request)
    return of_hub(text, network.get("HF_ENDPOINT", ""))
