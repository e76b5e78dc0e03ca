"""Connections that never get their request out (slow-loris) don't stay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from qm.store.errors import QmError

from .connection import Connection


class RequestTooSlow(QmError):
    """The body did not arrive in time."""

    status = 408
    code = "request_too_slow"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the request did not arrive within {limit_s:g} s (QM_READ_TIMEOUT)")


class Patience:
    """Closes connections whose first request has not come after `limit_s`.

    Between requests aiohttp's own keep-alive limit holds, which this server lengthens for nobody.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._silent: dict[RequestHandler, asyncio.TimerHandle] = {}

    def watch(self, connection: RequestHandler) -> None:
        """From now on it has `limit_s` to send the head of a request."""
        loop = asyncio.get_running_loop()
        self._silent[connection] = loop.call_later(self._limit_s, self._give_up, connection)

    def heard(self, connection: RequestHandler) -> None:
        """It has sent one."""
        timer = self._silent.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self, connection: RequestHandler) -> None:
        del self._silent[connection]
        connection.force_close()


PATIENCE = web.AppKey("patience", Patience)


class PatientRunner(web.AppRunner):
    """An AppRunner whose every new connection is watched by the application's Patience."""

    @property
    def server(self) -> web.Server | None:
        server = super().server
        return None if server is None else _Watching(server, self.app[PATIENCE])


class _Watching(web.Server):
    """A factory of connections, as asyncio asks for them."""

    def __init__(self, server: web.Server, patience: Patience) -> None:
        self._inner, self._patience = server, patience

    def __call__(self) -> RequestHandler:
        connection = self._inner()
        connection.__class__ = Connection  # aiohttp names no way to choose it
        self._patience.watch(connection)
        return connection


@contextmanager
def in_time(limit_s: float) -> Iterator[None]:
    """Raises RequestTooSlow for a TimeoutError inside."""
    try:
        yield
    except TimeoutError as error:
        raise RequestTooSlow(limit_s) from error
