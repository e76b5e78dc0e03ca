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
_READ_BYTES: Final = 65_536


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
            async with asyncio.timeout(job.limit_s):
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


class _Worker:
    """One child and the socket to it."""

    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket) -> None:
        self.process = process
        self._connection = connection
        self._frames = FrameReader()

    async def ask(self, job: RenderJob) -> Rendered:
        """Raises OSError when the child is gone, BrokenPeer and DecodeError for nonsense."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._connection, frame(job))
        while True:
            data = await loop.sock_recv(self._connection, _READ_BYTES)
            if not data:
                raise ConnectionResetError
            for body in self._frames.feed(data):
                return msgspec.msgpack.decode(body, type=Rendered)

    async def kill(self) -> None:
        self._connection.close()
        if self.process.returncode is None:
            with suppress(ProcessLookupError):  # it ended by itself just now
                self.process.kill()
        await self.process.wait()


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
    ours.setblocking(False)
    worker = _Worker(process, ours)
    try:
        async with asyncio.timeout(START_LIMIT_S):
            await worker.ask(RenderJob(0, "", "jinja", {}, START_LIMIT_S, 0))
    except (TimeoutError, OSError) as error:
        await worker.kill()
        raise RenderWorkerFailed("the process that renders chat templates can't start") from error
    except asyncio.CancelledError:
        await asyncio.shield(worker.kill())
        raise
    return worker
