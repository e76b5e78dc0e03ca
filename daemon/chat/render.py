"""Chat templates become prompts here, in a child that may be killed at any moment.

prompt = await renderer.render(template, TemplateKind.JINJA, {"messages": [...]})
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from typing import Any, Final

import msgspec
from qm.store.errors import InvalidRequest, QmError

from ..runner.environment import child_environment
from ..runner.wire import BrokenPeer, FrameReader
from .render_wire import Rendered, RenderJob, frame

WALL_LIMIT_S: Final = 5.0
START_LIMIT_S: Final = 30.0
OUTPUT_LIMIT_CHARACTERS: Final = 64 * 1024 * 1024


class TemplateFailed(InvalidRequest):
    """The template can't be rendered with this input."""

    code = "template_failed"


class TemplateRefused(TemplateFailed):
    """It said so itself; another conversation may please it."""


class RenderWorkerFailed(QmError):
    """The render worker could not be started or broke down."""

    code = "render_worker_failed"


class Renderer:
    """Owns at most one worker process, started with the first render and kept."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None
        self._turn = asyncio.Lock()
        self._last_id = 0

    async def render(
        self,
        template: str,
        kind: str,
        context: dict[str, Any],  # Any: JSON types of a chat request
        *,
        limit_s: float = WALL_LIMIT_S,
        limit_characters: int = OUTPUT_LIMIT_CHARACTERS,
    ) -> str:
        """The prompt. `kind` is jinja or go. Raises TemplateRefused with the template's own words.

        Names in `context` that templates may not see are left out.
        """
        self._last_id += 1
        job = RenderJob(self._last_id, template, kind, context, limit_s, limit_characters)
        async with self._turn:
            rendered = await self._run(job)
        if rendered.error:
            raise TemplateRefused(f"the chat template can't be rendered: {rendered.error}")
        return rendered.text

    async def close(self) -> None:
        """Ends the worker; returns when it is reaped."""
        async with self._turn:
            await self._drop()

    @property
    def pid(self) -> int | None:
        """The worker's process id, when there is one."""
        return self._worker.process.pid if self._worker else None

    async def _run(self, job: RenderJob) -> Rendered:
        worker = await self._ready()
        done = False
        try:
            rendered = await worker.ask(job)
            done = True
            return rendered
        except TimeoutError:
            raise TemplateFailed(
                f"the chat template takes longer than {job.limit_s:g} s to render"
            ) from None
        except (OSError, BrokenPeer, msgspec.DecodeError):
            raise TemplateFailed(
                "the chat template broke the limits of memory or CPU time"
            ) from None
        finally:
            if not done:  # also when cancelled: an answer that comes later would be taken for next
                await asyncio.shield(self._drop())

    async def _ready(self) -> _Worker:
        if self._worker is not None and self._worker.process.returncode is not None:
            await self._drop()
        if self._worker is None:
            self._worker = await _start()
        return self._worker

    async def _drop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.kill()


class _Worker(asyncio.Protocol):
    """One child and the socket to it, for one job at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Rendered] | None = None

    async def ask(self, job: RenderJob) -> Rendered:
        """Raises TimeoutError, OSError when the child is gone, BrokenPeer and DecodeError for
        nonsense.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        limit = loop.call_later(job.limit_s, self._settle, TimeoutError())
        self._transport.write(frame(job))
        try:
            return await self._answer
        finally:
            limit.cancel()

    async def kill(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self.process.returncode is None:
            with suppress(ProcessLookupError):  # it ended by itself just now
                self.process.kill()
        await self.process.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                self._settle(msgspec.msgpack.decode(body, type=Rendered))
        except (BrokenPeer, msgspec.DecodeError) as error:
            self._settle(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._settle(error or ConnectionResetError())

    def _settle(self, found: Rendered | Exception) -> None:
        """Tells who asks, if anybody still does."""
        if self._answer is None or self._answer.done():
            return
        if isinstance(found, Rendered):
            self._answer.set_result(found)
        else:
            self._answer.set_exception(found)


async def _start() -> _Worker:
    """A worker that has answered once, so that a job's limit doesn't count its imports."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "qm.daemon.chat.render_worker", str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=child_environment(os.environ),
            start_new_session=True,
        )
    worker = _Worker(process)
    try:
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: worker, sock=ours)
        await worker.ask(RenderJob(0, "", "jinja", {}, START_LIMIT_S, 0))
    except OSError as error:
        await worker.kill()
        raise RenderWorkerFailed("the process that renders chat templates can't start") from error
    except asyncio.CancelledError:
        await asyncio.shield(worker.kill())
        raise
    return worker
