"""Ends a runner that has stopped answering: its requests fail instead of waiting for ever."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from .runner.failures import RunnerFailed

PERIOD_S: Final = 5.0
LIMIT_S: Final = 20.0
_WORKING: Final = 0.02  # of the limit in CPU time: a slow step works, a stopped process does not


class Watched(Protocol):
    """A runner, as the watchdog sees it."""

    exited: asyncio.Future[int]

    @property
    def alive(self) -> bool: ...
    @property
    def busy(self) -> bool: ...
    def cpu_s(self) -> float: ...
    async def ping(self, limit_s: float) -> object: ...
    def give_up(self, why: str) -> None: ...


async def watch(
    runner: Watched,
    *,
    workers: tuple[str, ...] = (),
    period_s: float = PERIOD_S,
    limit_s: float = LIMIT_S,
) -> None:
    """Returns when `runner` has ended; gives it up when it neither answers nor computes.

    Nobody is asked who has nothing to do: an idle runner sleeps. One that waits for `workers` that
    have layers of its model can't tell.
    """
    while not runner.exited.done():
        await asyncio.wait((runner.exited,), timeout=period_s)
        if not (runner.alive and runner.busy):
            continue
        before_s = runner.cpu_s()
        try:
            await runner.ping(limit_s)
        except RunnerFailed:
            if runner.alive and runner.cpu_s() - before_s < _WORKING * limit_s:
                why = f"stopped answering for {limit_s:g} s and was ended"
                maybe = f"; perhaps a worker hangs (QM_RPC): {', '.join(workers)}"
                runner.give_up(why + maybe if workers else why)
