"""Asks llama.cpp about devices and sizes, in a child process that may crash for it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from qm.store.errors import QmError

from . import logs
from .devices import BufferBytes, Devices
from .runner.environment import child_environment
from .runner.wire import Placement

_log = logs.Log("prober")
ANSWER_LIMIT_S = 60.0  # a busy machine is no reason to guess
IDLE_S = 10.0  # a probe that looked at GPUs holds some of their memory: don't keep it long
_MAX_LINE_BYTES = 1 << 20


class ProbeFailed(QmError):
    """The probe crashed, hung, or llama.cpp refused; the message says which."""

    code = "probe_failed"


class Probe(Protocol):
    """What placement asks of llama.cpp."""

    async def devices(self, endpoints: tuple[str, ...]) -> Devices: ...

    async def measure(
        self,
        weights: tuple[str, ...],
        placement: Placement,
        *,
        embedding: bool,
        projector: str | None = None,
        draft: str | None = None,
    ) -> tuple[BufferBytes, ...]: ...

    async def release(self) -> None: ...

    async def close(self) -> None: ...


class Ask(msgspec.Struct, frozen=True):
    """With a placement: what would it take? Without: which devices are there?"""

    endpoints: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    placement: Placement | None = None
    embedding: bool = False
    projector: str | None = None
    draft: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """One of the three is set. An empty `buffers` means that llama.cpp's account is unreadable."""

    devices: Devices | None = None
    buffers: tuple[BufferBytes, ...] | None = None
    error: str = ""


@dataclass(slots=True)
class _Child:
    """A running probe and the line to it."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    endpoints: tuple[str, ...] | None = None  # None: it has not been asked anything


class Prober:
    """One question at a time, to a child that is ended when idle.

    A fresh one waits then, with llama.cpp imported and no device touched.
    """

    def __init__(self, log_directory: Path) -> None:
        self._log_path = log_directory / "probe.log"
        self._lock = asyncio.Lock()
        self._child: _Child | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def warm(self) -> None:
        """Starts a child in the background, ahead of the first question."""
        self._begin(self._refresh(), "warm probe")

    async def devices(self, endpoints: tuple[str, ...]) -> Devices:
        """Every device, with its memory as of now. Raises ProbeFailed."""
        answer = await self._ask(Ask(endpoints=endpoints))
        if answer.devices is None:
            raise ProbeFailed(answer.error or "the probe told no devices")
        return answer.devices

    async def measure(
        self,
        weights: tuple[str, ...],
        placement: Placement,
        *,
        embedding: bool,
        projector: str | None = None,
        draft: str | None = None,
    ) -> tuple[BufferBytes, ...]:
        """What llama.cpp would allocate for it. Raises ProbeFailed."""
        ask = Ask(placement.rpc_servers, weights, placement, embedding, projector, draft)
        answer = await self._ask(ask)
        if answer.buffers is None:
            raise ProbeFailed(answer.error or "the probe measured nothing")
        return answer.buffers

    async def release(self) -> None:
        """No more questions for now: a remote server has time for one client only."""
        async with self._lock:
            if self._child is not None and self._child.endpoints:
                await self._end()
                self.warm()

    async def close(self) -> None:
        """End and reap the child, if there is one."""
        self._closed = True
        self._stay()
        async with self._lock:
            await self._end()

    @property
    def pid(self) -> int | None:
        """The child, while there is one."""
        return self._child.process.pid if self._child else None

    async def _ask(self, ask: Ask) -> Answer:
        async with self._lock:
            self._stay()
            try:
                async with asyncio.timeout(ANSWER_LIMIT_S):
                    child = await self._child_for(ask)
                    child.writer.write(msgspec.json.encode(ask) + b"\n")
                    line = await child.reader.readline()
            except TimeoutError:
                await self._end()
                raise ProbeFailed(f"no answer within {ANSWER_LIMIT_S:g} s") from None
            except asyncio.CancelledError:
                await self._end()  # else its answer would be taken for the next question's
                raise
            except OSError as error:
                await self._end()
                raise ProbeFailed(f"the probe broke off: {error}; see {self._log_path}") from error
            if not line:
                status = await child.process.wait()
                await self._end()
                raise ProbeFailed(f"the probe ended with status {status}; see {self._log_path}")
            if not ask.endpoints:
                self._leave_later()
            return msgspec.json.decode(line, type=Answer)

    async def _child_for(self, ask: Ask) -> _Child:
        """A child that is connected to no other workers: it would ask those about devices too.

        A dry run asks only the workers that it is about.
        """
        known = self._child.endpoints if self._child is not None else None
        fitting = known in (None, ask.endpoints) or (
            ask.placement is not None and set(ask.endpoints) <= set(known or ())
        )
        if not fitting or self._child is None or self._child.process.returncode is not None:
            await self._end()
            self._child = await self._start()
        if self._child.endpoints is None:
            self._child.endpoints = ask.endpoints
        return self._child

    async def _start(self) -> _Child:
        self._log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs, self._log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "qm.daemon.runner.probe", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                env=child_environment(os.environ),
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=_MAX_LINE_BYTES)
        return _Child(process, reader, writer)

    async def _end(self) -> None:
        """It holds nothing that would need saving: kill and reap."""
        child, self._child = self._child, None
        if child is None:
            return
        child.writer.close()
        with suppress(ProcessLookupError):
            child.process.kill()
        await child.process.wait()

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _leave_later(self) -> None:
        self._stay()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._leave)

    def _leave(self) -> None:
        self._idle = None
        self._begin(self._refresh(), "end idle probe")

    async def _refresh(self) -> None:
        """A fresh child in place of one that has been asked."""
        async with self._lock:
            if self._child is not None and self._child.endpoints is not None and not self._idle:
                await self._end()
            if self._child is None and not self._closed:
                try:
                    self._child = await self._start()
                except OSError as error:
                    _log.warning("probe_not_warmed", error=error)

    def _begin(self, work: Coroutine[None, None, None], name: str) -> None:
        self._task = asyncio.create_task(work, name=name)
