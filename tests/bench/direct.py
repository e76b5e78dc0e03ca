"""A runner that is driven without the daemon: what the daemon adds is measured against it."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

from qm.daemon.chat.options import completed
from qm.daemon.hardware import physical_cores
from qm.daemon.runner.process import Runner
from qm.daemon.runner.wire import Chunk, Done, Generate, Load, Options, Placement

from .servers import Answer

_STOP_LIMIT_S = 30.0


class Direct:
    """Asks a runner by frames. Its event loop has a thread, as the daemon's has a process."""

    def __init__(self, runner: Runner, loop: asyncio.AbstractEventLoop) -> None:
        self._runner = runner
        self._loop = loop

    @property
    def pid(self) -> int:
        return self._runner.pid

    def answer(self, prompt: str, n: int, model: str = "", **more: Any) -> Answer:
        assert not (model or more), "the one model, greedily"
        return asyncio.run_coroutine_threadsafe(self._answer(prompt, n), self._loop).result()

    async def _answer(self, prompt: str, n: int) -> Answer:
        options = completed(Options(num_predict=n, temperature=0, ignore_eos=True))
        answer = Answer(time.perf_counter())
        frames = self._runner.generate(Generate(id=0, prompt=prompt, options=options))
        async with aclosing(frames):
            async for frame in frames:
                answer.over_s = time.perf_counter()
                if isinstance(frame, Chunk):
                    answer.came_s.append(answer.over_s)
                elif isinstance(frame, Done):
                    answer.tokens = frame.generated_tokens
                    answer.prompt_s = frame.prompt_ns / 1e9
        return answer


@contextmanager
def direct(weights: Path, placement: Placement) -> Iterator[Direct]:
    """A runner with this model, ready to answer."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()  # the runner is killed when the thread ends that started it
    with tempfile.TemporaryDirectory() as directory:
        runner = _result(loop, started(weights, placement, Path(directory) / "runner.log"))
        try:
            yield Direct(runner, loop)
        finally:
            _result(loop, runner.close())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_STOP_LIMIT_S)
            loop.close()


async def started(weights: Path, placement: Placement, log_path: Path) -> Runner:
    """A runner from its start until the model answers."""
    runner = await Runner.spawn(log_path)
    await runner.load(Load(id=0, weights=(str(weights),), placement=placement))
    return runner


def placed(n_ctx: int, n_parallel: int) -> Placement:
    """Where the daemon puts a small model on a machine without GPUs."""
    return Placement(n_ctx=n_ctx, n_parallel=n_parallel, n_threads=physical_cores())


def _result(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:  # Any: whatever it returns
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
