"""Long work on the store, each in a process of its own that can be killed.

The same job asked for twice runs once, and both see its progress. A job whose last listener has
left is ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from qm.store.errors import Conflict, InvalidRequest, NotFound, QmError, Unavailable

from . import logs
from .job_workers import EXIT_LIMIT_S, JobBroken, Worker, Workers, reap
from .runner.environment import network_environment
from .turns import Board

JsonObject: TypeAlias = dict[str, Any]  # Any: a JSON document, checked by who reads it

_log = logs.Log("jobs")
# these kinds may know proxies and tokens
DOWNLOADING = frozenset({"fetch", "peek", "pull", "push", "repair"})
# these kinds may run models
COMPUTING = frozenset({"compare", "create", "evaluate", "rebuild"})
BEFORE_BUILDS = frozenset({"adopt", "fetch"})  # mostly a build follows, for what they bring
_TAIL_BYTES = 2048
_FAMILIES: dict[int, type[QmError]] = {
    one.status: one for one in (InvalidRequest, NotFound, Conflict, Unavailable)
}


class JobCrashed(QmError):
    """The job's process ended without a result; the message has the tail of what it printed."""

    code = "job_crashed"

    def __init__(self, kind: str, exit_status: int, tail: str) -> None:
        super().__init__(f"the {kind} job ended with exit status {exit_status}\n{tail}".rstrip())
        self.exit_status = exit_status


@dataclass(slots=True)
class _Job:
    """One running or waiting job and what it has said so far."""

    kind: str
    args: JsonObject
    network: Mapping[str, str]  # what it may know besides, of whom to ask by which way
    started_s: float = field(default_factory=time.time)
    steps: list[tuple[int, JsonObject]] = field(default_factory=list)  # numbered from 1
    n_steps: int = 0  # how many there were, with those that a later one replaced
    listeners: set[asyncio.Event] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    pid: int | None = None
    has_result: bool = False
    over: bool = False
    error: QmError | None = None

    @property
    def key(self) -> str:
        return json.dumps([self.kind, self.args, self.network], sort_keys=True)

    def say(self, step: JsonObject) -> None:
        """Add a step; one that only counts further replaces the last one."""
        if self.steps and _counts_on(self.steps[-1][1], step):
            self.steps.pop()
        self.n_steps += 1
        self.steps.append((self.n_steps, step))
        self.wake()

    def wake(self) -> None:
        for listener in self.listeners:
            listener.set()

    def since(self, seen: int) -> list[JsonObject]:
        """The steps that who has seen the first `seen` must still see."""
        return [step for number, step in self.steps if number > seen]


class Jobs:
    """Starts jobs on the store at `home`, at most `max_running` at once.

    Those that run models take turns on the CPU with whoever shares the `board`.
    """

    def __init__(
        self, home: Path, *, max_running: int, log_directory: Path, board: Board | None = None
    ) -> None:
        self._board = board
        self._home = home
        self._max_running = max_running
        self._slots = asyncio.Semaphore(max_running)
        self._workers = Workers(log_directory, board)
        self._jobs: dict[str, _Job] = {}  # those that may be joined
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(
        self, kind: str, args: JsonObject, network: Mapping[str, str] | None = None
    ) -> AsyncGenerator[JsonObject]:
        """Every step of the job, its result last. Raises the QmError that it ended with.

        `network` is what whoever asks says about tokens, proxies and so on: it wins over our own.
        """
        if self._closed:
            raise Unavailable("the daemon is shutting down")
        job, news, seen = self._join(_Job(kind, args, network or {})), asyncio.Event(), 0
        job.listeners.add(news)
        try:
            while True:
                news.clear()
                over, fresh = job.over, job.since(seen)
                seen = job.n_steps
                for step in fresh:
                    yield step
                if over:
                    break
                await news.wait()
        finally:
            job.listeners.discard(news)
            self._leave(job)
        if job.error is not None:
            raise job.error

    def running(self) -> list[JsonObject]:
        """What runs or waits for a slot, for people to look at."""
        return [
            {
                "kind": job.kind,
                "name": str(job.args.get("name") or job.args.get("model") or ""),
                "pid": job.pid,
                "seconds": round(time.time() - job.started_s, 1),
                "step": job.steps[-1][1] if job.steps else {},
            }
            for job in self._jobs.values()
        ]

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Entered when no job runs; none begins before it is left."""
        taken = 0
        try:
            for _ in range(self._max_running):
                await self._slots.acquire()
                taken += 1
            yield
        finally:
            for _ in range(taken):
                self._slots.release()

    async def close(self) -> None:
        """Start nothing more; end and reap every job."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._workers.close()

    # Joining and leaving ----------------------------------------------------------------------

    def _join(self, fresh: _Job) -> _Job:
        job = self._jobs.setdefault(fresh.key, fresh)
        if job is fresh:
            job.task = asyncio.create_task(self._perform(job), name=f"job {job.kind}")
            self._tasks.add(job.task)
            job.task.add_done_callback(self._tasks.discard)
        return job

    def _leave(self, job: _Job) -> None:
        if job.listeners or job.over or job.task is None:
            return
        self._forget(job)  # who asks now gets a new one
        job.task.cancel()

    def _forget(self, job: _Job) -> None:
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]

    # Performing -------------------------------------------------------------------------------

    async def _perform(self, job: _Job) -> None:
        """Rim: whatever goes wrong here becomes the error that the listeners get."""
        try:
            async with self._slots:
                await self._in_process(job)
        except QmError as error:
            job.error = error
        except asyncio.CancelledError:
            job.error = Unavailable(f"the {job.kind} job was stopped")
        except Exception as error:  # noqa: BLE001  a rim: the daemon goes on
            _log.exception("job_broke", kind=job.kind)
            job.error = JobBroken(f"the {job.kind} job failed: {error}")
        finally:
            job.over = True
            self._forget(job)
            job.wake()
            if not self._closed:
                self._workers.warm()

    @contextmanager
    def _seat(self, job: _Job) -> Iterator[int | None]:
        """A place at the board while the job's process lives, if it may run models."""
        seat = self._board.sit() if self._board and job.kind in COMPUTING else None
        try:
            yield seat.number if seat else None
        finally:
            if seat is not None:
                seat.leave()

    async def _in_process(self, job: _Job) -> None:
        worker = await self._workers.take()
        # The writer's end would cut the process short; nobody else may have its seat until then.
        with self._seat(job) as seat, closing(worker.writer):
            job.pid = worker.process.pid
            if job.kind in BEFORE_BUILDS and not self._closed:
                self._workers.warm(for_build=True)
            _log.info("job_started", kind=job.kind, pid=job.pid)
            worker.order(
                {
                    "kind": job.kind,
                    "home": str(self._home),
                    "args": job.args,
                    "environment": _environment(job),
                    "seat": seat,
                }
            )
            try:
                await _follow(job, worker)
            finally:
                status = await asyncio.shield(reap(worker.process, 0.0))
                _log.info("job_ended", kind=job.kind, pid=job.pid, status=status)


def _environment(job: _Job) -> dict[str, str]:
    """What the job's process needs beyond what every child has."""
    return network_environment(os.environ | job.network) if job.kind in DOWNLOADING else {}


async def _follow(job: _Job, worker: Worker) -> None:
    """Takes what the job says until it has ended. Raises the error that it ended with."""
    error = await _listen(job, worker.reader)
    status = await reap(worker.process, EXIT_LIMIT_S)
    if error is not None:
        raise error
    if not job.has_result:
        raise JobCrashed(job.kind, status, _tail(worker.log_path))


async def _listen(job: _Job, reader: asyncio.StreamReader) -> QmError | None:
    """The error that the job says it ended with, if it does; the rest goes into `job`."""
    while line := await _read_line(reader):
        message = json.loads(line)
        if "error" in message:
            return revived(**message["error"])
        job.has_result = "result" in message
        job.say(message["result"] if job.has_result else message["progress"])
    return None


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """Nothing at the end; a process that died before it read its order resets the connection."""
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


def revived(status: int, code: str, message: str) -> QmError:
    """The error that a job ended with: of the family that its status tells, with its own code."""
    family = _FAMILIES.get(status, QmError)
    kind: type[QmError] = type("JobError", (family,), {"status": status, "code": code})
    return kind(message)


def _counts_on(step: JsonObject, later: JsonObject) -> bool:
    """Whether `later` says the same as `step`, only how far it got."""
    return "completed" in later and all(
        step.get(name) == later.get(name) for name in ("status", "digest", "total")
    )


def _tail(log_path: Path) -> str:
    return log_path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
