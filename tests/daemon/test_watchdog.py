"""The watchdog ends what hangs, and nothing that is only slow."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.failures import RunnerCrashed, RunnerFailed
from qm.daemon.runner.process import Runner, collect
from qm.daemon.watchdog import watch

LIMIT_S = 60.0
ENDLESS = wire.Generate(0, wire.Options(num_predict=-1, ignore_eos=True), "On and on")
PLACEMENT = wire.Placement(n_ctx=256, n_batch=64, n_ubatch=64, n_threads=1)


class Slow:
    """Never answers in time, and computes or not."""

    def __init__(self, *, computes: bool, busy: bool = True) -> None:
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.alive = True
        self.busy = busy
        self.asked = 0
        self.given_up = ""
        self._computes = computes

    def cpu_s(self) -> float:
        return float(self.asked * self._computes)

    async def ping(self, limit_s: float) -> object:
        self.asked += 1
        if self.asked == 3:
            self.exited.set_result(0)
        raise RunnerFailed(f"no answer for {limit_s} s")

    def give_up(self, why: str) -> None:
        self.given_up = why
        self.alive = False
        self.exited.set_result(-9)


async def test_workers_that_may_hang_are_named() -> None:
    """A runner waits for ever for one that has layers of its model."""
    runner = Slow(computes=False)
    await watch(runner, workers=("10.0.0.9:50052",), period_s=0.001, limit_s=0.001)
    assert "perhaps a worker hangs (QM_RPC): 10.0.0.9:50052" in runner.given_up


async def test_a_stopped_runner_is_ended(smollm2_gguf: Path, tmp_path: Path) -> None:
    """SIGSTOP in the middle of an answer: the request fails with the reason, the process ends."""
    runner = await Runner.spawn(tmp_path / "log")
    await runner.load(wire.Load(0, (str(smollm2_gguf),), PLACEMENT))
    answer = asyncio.create_task(collect(runner.generate(ENDLESS)))
    while not (await runner.ping()).active:  # noqa: ASYNC110  another process has no event for us
        await asyncio.sleep(0.01)
    os.kill(runner.pid, signal.SIGSTOP)
    async with asyncio.timeout(LIMIT_S):
        await watch(runner, period_s=0.05, limit_s=0.5)
        with pytest.raises(RunnerCrashed, match="stopped answering"):
            await answer
    assert await runner.exited == -signal.SIGKILL
    await runner.close()


async def test_who_computes_is_left_alone() -> None:
    """A step that takes long is no hang."""
    runner = Slow(computes=True)
    await asyncio.wait_for(watch(runner, period_s=0.01, limit_s=0.1), LIMIT_S)
    assert runner.asked == 3
    assert runner.given_up == ""


async def test_who_neither_answers_nor_computes_is_given_up() -> None:
    """At the first question."""
    runner = Slow(computes=False)
    await asyncio.wait_for(watch(runner, period_s=0.01, limit_s=0.1), LIMIT_S)
    assert runner.asked == 1
    assert "0.1 s" in runner.given_up


async def test_an_idle_runner_is_not_asked() -> None:
    """It sleeps, and is let sleep."""
    runner = Slow(computes=False, busy=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch(runner, period_s=0.01, limit_s=0.1), 0.1)
    assert runner.asked == 0
