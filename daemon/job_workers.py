"""Processes that do jobs, one each. Where one was needed lately the next one is up before it is."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from qm.store.errors import QmError

from . import logs
from .runner.environment import child_environment
from .turns import Board

LOG_FILES = 8  # jobs write to so many files in turn
IDLE_S = 300.0  # a process that nobody needs for so long ends
EXIT_LIMIT_S = 5.0
TERMINATE_LIMIT_S = 5.0
KILL_LIMIT_S = 10.0
MAX_LINE_BYTES = 16 << 20

_log = logs.Log("job_workers")


class JobBroken(QmError):
    """Something that nobody foresaw broke around the job's process; the log has the details."""

    code = "job_broken"


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that waits for its order, or has it. Its standard output goes to `log_path`."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    log_path: Path

    def order(self, order: Mapping[str, object]) -> None:
        self.writer.write(json.dumps(order).encode() + b"\n")

    def hang_up(self) -> None:
        """One that waits ends; one that works is cut short."""
        self.writer.close()


class Workers:
    """At most one idle process; `take` hands it over, `warm` starts the next.

    Each can be given a seat at the `board`, once it is known whether it needs one.
    """

    def __init__(self, log_directory: Path, board: Board | None = None) -> None:
        self._board = board
        self._log_directory = log_directory
        self._log_numbers = itertools.cycle(range(LOG_FILES))
        self._starting: asyncio.Task[Worker] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def warm(self, *, for_build: bool = False) -> None:
        """Start one in the background, unless there is one; it waits for IDLE_S.

        One `for_build` has imported what converts and quantises.
        """
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_later(IDLE_S, self._expire)
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(for_build), name="warm job process")

    async def take(self) -> Worker:
        """The one that waits if it is well, else a new one. Raises OSError."""
        waiting, self._starting = self._starting, None
        worker = await self._started(waiting)
        if worker is not None and worker.process.returncode is None:
            return worker
        if worker is not None:
            worker.hang_up()
        return await self._start()

    async def close(self) -> None:
        """End and reap what waits."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._expire()
        while self._ending:
            await asyncio.wait(self._ending)

    def _expire(self) -> None:
        waiting, self._starting = self._starting, None
        if waiting is not None:
            ending = asyncio.create_task(self._end(waiting), name="end job process")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _end(self, waiting: asyncio.Task[Worker]) -> None:
        worker = await self._started(waiting)
        if worker is not None:
            worker.hang_up()
            await reap(worker.process, EXIT_LIMIT_S)

    async def _started(self, waiting: asyncio.Task[Worker] | None) -> Worker | None:
        """None where there is none, or it could not be started."""
        if waiting is None:
            return None
        try:
            return await waiting
        except OSError as error:
            _log.warning("worker_failed", error=error)
            return None

    async def _start(self, for_build: bool = False) -> Worker:
        log_path = self._log_directory / f"job-{next(self._log_numbers)}.log"
        log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as unwinding:
            reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
            unwinding.callback(writer.close)
            process = await _spawn(theirs, log_path, self._board, for_build=for_build)
            unwinding.pop_all()
        return Worker(process, reader, writer, log_path)


async def _spawn(
    theirs: socket.socket, log_path: Path, board: Board | None, *, for_build: bool
) -> asyncio.subprocess.Process:
    """It knows no tokens: those come with an order that takes them."""
    fds = (theirs.fileno(), *((board.fd,) if board else ()))
    with log_path.open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "qm.daemon.job_process", *map(str, fds)),
            *(("build",) if for_build else ()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=fds,
            env=child_environment(os.environ),
            start_new_session=True,  # a Ctrl-C in the daemon's terminal is not for jobs
        )


async def reap(process: asyncio.subprocess.Process, patience_s: float) -> int:
    """Its exit status: waits, terminates, kills."""
    for limit_s, then in (
        (patience_s, process.terminate),
        (TERMINATE_LIMIT_S, process.kill),
        (KILL_LIMIT_S, None),
    ):
        if process.returncode is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), limit_s)
        if process.returncode is not None:
            return process.returncode
        if then is not None:
            with suppress(ProcessLookupError):
                then()
    raise JobBroken(f"job process {process.pid} can't be killed; it hangs in the kernel")
