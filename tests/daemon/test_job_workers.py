"""The process that waits for the next job."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from qm.daemon import job_workers
from qm.daemon.job_workers import EXIT_LIMIT_S, Worker, Workers, reap
from qm.daemon.jobs import Jobs

LIMIT_S = 60.0


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    workers = Workers(tmp_path / "logs")
    yield workers
    await workers.close()


async def warmed(workers: Workers) -> Worker:
    """The process that waits, once it is up; it goes on waiting."""
    workers.warm()
    assert workers._starting is not None
    return await asyncio.shield(workers._starting)


def environment_of(pid: int) -> bytes:
    """Empty for a moment while the process that was started becomes its program."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := Path(f"/proc/{pid}/environ").read_bytes()):
        assert time.monotonic() < deadline, "it has ended"
        time.sleep(0.01)
    return found


async def end(worker: Worker) -> int:
    worker.hang_up()
    return await reap(worker.process, EXIT_LIMIT_S)


async def test_who_needs_one_gets_the_one_that_waits(workers: Workers) -> None:
    """And the next one another; each ends when it is hung up on."""
    waiting = await warmed(workers)
    taken = await workers.take()
    assert taken is waiting
    other = await workers.take()
    assert other.process.pid != taken.process.pid
    assert [await end(taken), await end(other)] == [0, 0]


async def test_one_that_died_is_replaced(workers: Workers) -> None:
    """Nobody is given it."""
    waiting = await warmed(workers)
    os.kill(waiting.process.pid, signal.SIGKILL)
    await asyncio.wait_for(waiting.process.wait(), LIMIT_S)
    taken = await workers.take()
    assert taken.process.pid != waiting.process.pid
    assert await end(taken) == 0


async def test_one_that_nobody_needs_ends(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while."""
    monkeypatch.setattr(job_workers, "IDLE_S", 0.1)
    waiting = await warmed(workers)
    assert await asyncio.wait_for(waiting.process.wait(), LIMIT_S) == 0


async def test_it_ends_with_the_others(workers: Workers) -> None:
    """Also while it starts."""
    workers.warm()
    await workers.close()
    waiting = await warmed(workers)
    await workers.close()
    assert waiting.process.returncode == 0


async def test_a_job_leaves_one_behind_that_knows_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token comes with the order that takes it, and is in no process's environment."""
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    jobs = Jobs(tmp_path / "home", max_running=1, log_directory=tmp_path / "logs")
    try:
        steps = [step async for step in jobs.run("verify", {})]
        assert steps[-1]["status"] == "success"
        waiting = jobs._workers._starting
        assert waiting is not None
        worker = await asyncio.wait_for(waiting, LIMIT_S)
        environment = await asyncio.to_thread(environment_of, worker.process.pid)
        assert b"PATH=" in environment
        assert b"hf_ours" not in environment
    finally:
        await jobs.close()
    assert worker.process.returncode == 0
