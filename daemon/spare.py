"""One runner kept warm: started, with llama.cpp imported, before anybody needs it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from qm.store.errors import QmError

from . import logs
from .runner.process import Runner

_log = logs.Log("spare")
LOG_FILES = 16  # runners write to so many files in turn; the oldest makes room
STILL_S = 0.5  # so long nobody must use a runner; who asks one thing after another is quicker


class Spawn(Protocol):
    """Starts a runner process that waits for a model and writes to `log_path`."""

    def __call__(self, log_path: Path) -> Awaitable[Runner]: ...


class Spare:
    """At most one idle runner; `take` hands it over, `warm` and `warm_later` start the next.

    A start takes a quarter of a second of a core, which would be missing in the first answer of a
    model that has just been loaded. So the next spare waits until runners are `quiet`.
    """

    def __init__(self, spawn: Spawn, log_directory: Path, quiet: asyncio.Event) -> None:
        self._spawn = spawn
        self._quiet = quiet
        self._log_directory = log_directory
        self._log_numbers = itertools.cycle(range(LOG_FILES))
        self._starting: asyncio.Task[Runner] | None = None
        self._waiting: asyncio.Task[None] | None = None

    def warm(self) -> None:
        """Start one in the background, unless there is one."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="warm spare")

    def warm_later(self) -> None:
        """The same once nobody has used a runner for a moment."""
        if self._starting is None and self._waiting is None:
            self._waiting = asyncio.create_task(self._warm_when_quiet(), name="spare to come")

    async def take(self) -> Runner:
        """The spare if it is well, else a new one. Raises RunnerFailed or OSError."""
        for runner in await self._settled():
            if runner.alive:
                return runner
            await runner.close()
        return await self._start()

    async def close(self) -> None:
        """End and reap the spare, if there is one."""
        for runner in await self._settled():
            await runner.close()

    @property
    def pid(self) -> int | None:
        """The waiting process, once it is up."""
        task = self._starting
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        return task.result().pid

    async def _warm_when_quiet(self) -> None:
        await self._quiet.wait()
        while not await self._stays_quiet():
            await self._quiet.wait()
        self._waiting = None
        self.warm()

    async def _stays_quiet(self) -> bool:
        await asyncio.sleep(STILL_S)
        return self._quiet.is_set()

    async def _start(self) -> Runner:
        log_path = self._log_directory / f"runner-{next(self._log_numbers)}.log"
        log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log_path.unlink(missing_ok=True)
        return await self._spawn(log_path)

    async def _settled(self) -> list[Runner]:
        """The spare, taken out; nothing when there is none or it did not start."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        starting, self._starting = self._starting, None
        if starting is None:
            return []
        try:
            return [await starting]
        except (QmError, OSError) as error:
            _log.warning("spare_failed", error=error)
            return []
