"""`python -m qm.daemon`: serve until told to stop.

settings → store → claim → listen → serve … refuse → drain → stop → kill
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
import ssl
import sys
from contextlib import ExitStack
from pathlib import Path

from aiohttp import web
from qm.store.errors import QmError
from qm.store.move import finish
from qm.store.store import Store, open_store

from . import logs
from .app import build_app, running_services
from .instance import claimed
from .listen import bound_address, check_exposure, tcp_socket, unix_socket
from .patience import PatientRunner
from .services import Lifecycle, Services
from .settings import Settings, load_settings
from .tls import tls_context

BACKGROUND = "--background"  # nobody looks at stderr: log to the file alone
EXIT_FAILED = 1
EXIT_SETTINGS = 2
_COLLECTED_AFTER = 10_000  # new objects
_LAST_WORDS_S = 2.0  # for handlers to send the error that stopped them

_log = logs.Log("daemon")


def main() -> int:
    """The exit status: 0 stopped as told, 1 could not serve, 2 the settings can't be used."""
    try:
        settings = load_settings()
        check_exposure(settings)
        tls = tls_context(settings.tls_certificate, settings.tls_key)
    except QmError as error:
        return _refused(error, EXIT_SETTINGS)
    try:
        store = open_store(settings.home, settings.stores)
        with ExitStack() as claims:
            for place in dict.fromkeys((settings.home, store.layout.root)):  # it may have moved
                claims.enter_context(claimed(place, settings.socket))
            _start_logging(settings)
            _finish_move(settings.home)
            asyncio.run(_serve(settings, store, tls))
    except (QmError, OSError) as error:
        return _refused(error, EXIT_FAILED)
    finally:
        logs.stop_logging()
    return 0


def _finish_move(home: Path) -> None:
    """What a move left at the old place may stay there when it can't be removed."""
    try:
        finish(home)
    except (QmError, OSError) as error:
        _log.warning("old_store_not_removed", error=error)


def _refused(error: Exception, status: int) -> int:
    _log.error("not_served", error=error)
    print(f"qm: {error}", file=sys.stderr)  # noqa: T201  whoever started us has no log to read yet
    return status


def _start_logging(settings: Settings) -> None:
    logs.start_logging(
        settings.log_file,
        level=settings.log_level,
        max_bytes=settings.log_max_bytes,
        to_stderr=BACKGROUND not in sys.argv,
    )


async def _serve(settings: Settings, store: Store, tls: ssl.SSLContext | None) -> None:
    lifecycle, hurry = Lifecycle(), asyncio.Event()
    lifecycle.claimed |= {settings.home, store.layout.root}
    with ExitStack() as sockets:
        sockets.enter_context(lifecycle.claims)
        listeners = [sockets.enter_context(unix_socket(settings.socket))]
        listeners += [sockets.enter_context(one) for one in _tcp(settings, lifecycle)]
        async with running_services(settings, store, lifecycle) as services:
            _on_signals(lifecycle, hurry)
            runner = PatientRunner(
                build_app(services),
                access_log=None,
                handler_cancellation=True,  # a client that hangs up frees its slot
                auto_decompress=False,  # a few bytes may become gigabytes
                shutdown_timeout=_LAST_WORDS_S,
            )
            await runner.setup()
            for listener in listeners:
                secure = tls if listener.family != socket.AF_UNIX else None
                await web.SockSite(runner, listener, ssl_context=secure).start()
            _collect_seldom()
            _log.info("ready", pid=os.getpid(), socket=settings.socket, host=lifecycle.address)
            await lifecycle.stop.wait()
            await _shut_down(runner, services, hurry)
    _log.info("stopped")


def _collect_seldom() -> None:
    """An answer leaves hardly any cycles behind, so there is little to search for between tokens.

    What is there by now lives as long as we do.
    """
    gc.set_threshold(_COLLECTED_AFTER)
    gc.freeze()


def _tcp(settings: Settings, lifecycle: Lifecycle) -> list[socket.socket]:
    """The TCP listener, if there is to be one and its port is free."""
    if settings.address is None:
        return []
    listener = tcp_socket(settings.address)
    if listener is None:
        hint = "the unix socket is served alone; set QM_HOST to choose another port"
        _log.warning("port_taken", host=settings.address, hint=hint)
        return []
    lifecycle.address = str(bound_address(listener))
    return [listener]


def _on_signals(lifecycle: Lifecycle, hurry: asyncio.Event) -> None:
    """The first signal asks to stop, the second not to wait for running answers."""

    def on_signal(name: str) -> None:
        _log.info("signal", name=name)
        if lifecycle.stop.is_set():
            hurry.set()
        lifecycle.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number.name)


async def _shut_down(runner: web.AppRunner, services: Services, hurry: asyncio.Event) -> None:
    """Refuse, drain, stop; what then still lives is killed as the services close."""
    _log.info("stopping", users=services.supervisor.n_users)
    for site in list(runner.sites):
        await site.stop()
    services.supervisor.refuse()
    await _drain(services, hurry)
    await services.jobs.close()
    await services.supervisor.shutdown()
    await runner.cleanup()


async def _drain(services: Services, hurry: asyncio.Event) -> None:
    """Wait for running answers, but not longer than the settings allow or a second signal."""
    limit_s = services.settings.drain_timeout_s
    waits = {
        asyncio.create_task(services.supervisor.drained()),
        asyncio.create_task(hurry.wait()),
    }
    await asyncio.wait(
        waits,
        timeout=None if limit_s == math.inf else limit_s,
        return_when=asyncio.FIRST_COMPLETED,
    )
    for wait in waits:
        wait.cancel()


if __name__ == "__main__":
    sys.exit(main())
