"""Jobs: real processes on a real store."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from qm.daemon.jobs import JobCrashed, Jobs, JsonObject, revived
from qm.store.errors import Conflict, InvalidRequest, NotFound, QmError, Unavailable

LIMIT_S = 60.0


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[Jobs]:
    """Jobs on an empty store."""
    jobs = Jobs(tmp_path / "home", max_running=2, log_directory=tmp_path / "logs")
    yield jobs
    await jobs.close()


async def until(condition: Callable[[], bool]) -> None:
    """Returns once it holds."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110  what processes do sets no event
            await asyncio.sleep(0.01)


async def gather(steps: AsyncGenerator[JsonObject]) -> list[JsonObject]:
    async with asyncio.timeout(LIMIT_S), aclosing(steps):
        return [step async for step in steps]


def pids(jobs: Jobs) -> list[int]:
    return [one["pid"] for one in jobs.running() if one["pid"] is not None]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A store whose lock is held, so that every job on it waits until it is killed."""
    import fcntl

    from qm.store.store import open_store

    store = open_store(tmp_path / "home")
    fd = os.open(store.layout.lock, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return tmp_path


async def test_a_file_is_adopted_with_progress(jobs: Jobs, smollm2_gguf: Path) -> None:
    """Counting steps, then the digest."""
    *counting, last = await gather(jobs.run("adopt", {"path": str(smollm2_gguf)}))
    assert last["status"] == "success"
    assert last["size"] == 98362432
    assert last["digest"].startswith("sha256:")
    assert counting[-1]["completed"] == counting[-1]["total"] == last["size"]
    assert jobs.running() == []


async def test_the_same_job_runs_once_for_all_who_ask(jobs: Jobs, smollm2_gguf: Path) -> None:
    """And all see how it ends."""
    args = {"path": str(smollm2_gguf)}
    first = asyncio.create_task(gather(jobs.run("adopt", args)))
    await until(lambda: bool(pids(jobs)))
    second = asyncio.create_task(gather(jobs.run("adopt", args)))
    await asyncio.sleep(0)
    assert len(jobs.running()) == 1
    assert (await first)[-1] == (await second)[-1]


async def test_an_error_crosses_the_border_typed(jobs: Jobs) -> None:
    """Its family, code, status and message are those of the process."""
    with pytest.raises(InvalidRequest, match="passwd") as caught:
        await gather(jobs.run("adopt", {"path": "/etc/passwd"}))
    assert caught.value.status == 400
    assert caught.value.code == "not_a_gguf"
    with pytest.raises(NotFound, match="'nobody'"):
        await gather(jobs.run("verify", {"model": "nobody"}))


async def test_a_job_that_is_killed_is_an_error(jobs: Jobs, blocked: Path) -> None:
    """With its exit status; the next one runs."""
    asked = asyncio.create_task(gather(jobs.run("adopt", {"path": "/nowhere"})))
    await until(lambda: bool(pids(jobs)))
    os.kill(pids(jobs)[0], signal.SIGKILL)
    with pytest.raises(JobCrashed, match="exit status -9"):
        await asked


async def test_an_unknown_kind_crashes_with_the_tail_of_its_log(jobs: Jobs) -> None:
    """A bug in a job shows its traceback, and nothing hangs."""
    with pytest.raises(JobCrashed, match="KeyError"):
        await gather(jobs.run("nonsense", {}))


async def test_the_last_listener_takes_the_job_with_it(jobs: Jobs, blocked: Path) -> None:
    """A client that hangs up does not leave a build running for nobody."""
    args = {"path": "/nowhere"}
    first = asyncio.create_task(gather(jobs.run("adopt", args)))
    second = asyncio.create_task(gather(jobs.run("adopt", args)))
    await until(lambda: bool(pids(jobs)))
    (pid,) = pids(jobs)
    first.cancel()
    await asyncio.wait((first,))
    assert is_alive(pid)
    second.cancel()
    await until(lambda: not is_alive(pid))
    assert jobs.running() == []


async def test_a_stopped_job_is_killed_all_the_same(
    jobs: Jobs, blocked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM does nothing to a process that is stopped."""
    monkeypatch.setattr("qm.daemon.job_workers.TERMINATE_LIMIT_S", 0.2)
    asked = asyncio.create_task(gather(jobs.run("adopt", {"path": "/nowhere"})))
    await until(lambda: bool(pids(jobs)))
    (pid,) = pids(jobs)
    os.kill(pid, signal.SIGSTOP)
    asked.cancel()
    await until(lambda: not is_alive(pid))


async def test_more_jobs_than_slots_wait(jobs: Jobs, blocked: Path) -> None:
    """The third has no process yet."""
    asked = [
        asyncio.create_task(gather(jobs.run("adopt", {"path": f"/nowhere{number}"})))
        for number in range(3)
    ]
    await until(lambda: len(pids(jobs)) == 2)
    assert len(jobs.running()) == 3
    await jobs.close()
    for task in asked:
        with pytest.raises(Unavailable, match="stopped"):
            await task


async def test_closed_jobs_take_no_more(jobs: Jobs) -> None:
    """Shutdown means it."""
    await jobs.close()
    with pytest.raises(Unavailable, match="shutting down"):
        await gather(jobs.run("verify", {}))


async def test_a_job_ends_when_its_daemon_is_gone(tmp_path: Path, blocked: Path) -> None:
    """Also where the kernel doesn't kill it: the end of the socket tells."""
    import sys

    from qm.daemon.lifeline import ORPHANED

    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "qm.daemon.job_process", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
        )
    with ours:
        order = f'{{"kind": "verify", "home": "{tmp_path}/home", "args": {{}}}}\n'
        ours.sendall(order.encode())
    async with asyncio.timeout(LIMIT_S):
        assert await process.wait() == ORPHANED


@pytest.mark.parametrize(
    ("status", "family"),
    [(400, InvalidRequest), (404, NotFound), (409, Conflict), (503, Unavailable), (500, QmError)],
)
def test_errors_come_back_as_their_family(status: int, family: type[QmError]) -> None:
    """So that the HTTP layer treats them like its own."""
    error = revived(status, "some_code", "why")
    assert isinstance(error, family)
    assert (error.status, error.code, error.message) == (status, "some_code", "why")
