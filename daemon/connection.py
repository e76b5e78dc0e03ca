"""One client's connection, as aiohttp handles it, and what aiohttp leaves to be wished for.

A client may close its sending side behind a whole request and still read (`nc -N` does). To us
that looks the same as one that has gone away. So the network is asked: a byte of urgent data, which
no stream of a reader shows, makes a socket that is closed at the other end come back as reset.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from contextlib import suppress
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from qm.store.errors import InvalidRequest

from .logs import Log

log = Log("http")

_FIRST_LOOK_S: Final = 0.001  # as long as an answer takes on one machine, and doubled each time
_LAST_LOOK_S: Final = 0.25
_GONE: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL


class BadBody(InvalidRequest):
    """A request's body broke off into bytes that are no HTTP."""

    code = "bad_body"


class Connection(RequestHandler):
    """Answers half-closed clients too, and writes no traceback for what is no HTTP."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """What is no HTTP behind half a body ends this body: its reader would wait for the rest."""
        super().data_received(data)
        if self._messages and (error := getattr(self._messages[-1][0], "exc", None)):
            self._break_body(str(error.message))

    def _break_body(self, reason: str) -> None:
        bodies = [body for _, body in self._messages]
        if self._current_request is not None:
            bodies.insert(0, self._current_request.content)
        if len(bodies) < 2 or (body := bodies[-2]).is_eof():
            return
        self._messages.pop()
        text = reason.partition("\n")[0][:200]
        body.set_exception(BadBody(f"the body can't be read: {text}"))
        body.feed_eof()
        self.close()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio wants to know
        """Whether to stay: for one whose whole request waits for the first byte of its answer."""
        if self.transport is None or self.ssl_context is not None or not self._is_waited_for():
            return None
        with suppress(OSError):
            _probe(self.transport)
        self._look(_FIRST_LOOK_S)
        return True

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are no request; anything else is aiohttp's to tell."""
        if status >= web.HTTPInternalServerError.status_code or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        text = message or "bad request"
        log.info("malformed_request", status=status, error=text.partition("\n")[0][:200])
        response = web.Response(status=status, text=text)
        response.force_close()
        return response

    @property
    def _is_idle(self) -> bool:
        """Whether all requests that came have had their answers."""
        return self._waiter is not None and not self._waiter.done()

    def _is_waited_for(self) -> bool:
        """Whether a request has come whole, and nothing of its answer has gone out."""
        if self._messages:
            return bool(self._messages[-1][1].is_eof())
        request = self._current_request
        if request is None:  # between two steps of aiohttp's, or idle
            return not self._is_idle
        return request.content.is_eof() and not request.writer.output_size

    def _look(self, after_s: float) -> None:
        """Looks again and again whether the client is still there; hangs up when all is said."""
        asyncio.get_running_loop().call_later(after_s, self._look_now, after_s)

    def _look_now(self, after_s: float) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        request = self._current_request
        is_cut = request is not None and not request.content.is_eof()
        if is_cut or _is_gone(self.transport):
            self.transport.abort()
        elif self._is_idle:
            self.force_close()
        else:
            if request is not None and not self._messages:
                self.close()  # after this answer: there is nobody who could ask again
            self._look(min(2 * after_s, _LAST_LOOK_S))


def _probe(transport: asyncio.Transport) -> None:
    """Makes a TCP peer that reads no more say so. A unix socket's says so itself."""
    connection = transport.get_extra_info("socket")
    if connection.family != socket.AF_UNIX:
        with socket.socket(fileno=os.dup(connection.fileno())) as probing:
            probing.send(b"\0", socket.MSG_OOB)


def _is_gone(transport: asyncio.Transport) -> bool:
    looking = select.poll()
    looking.register(transport.get_extra_info("socket").fileno(), 0)
    return any(events & _GONE for _, events in looking.poll(0))
