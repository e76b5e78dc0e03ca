"""A build's turns on the CPU."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing
from pathlib import Path

from qm.daemon.jobs import Jobs, JsonObject
from qm.daemon.turns import JOB_WEIGHT, Board, Turns
from qm.modelfiles.build.create import create
from qm.modelfiles.create_request import from_create_request
from qm.store.name import Name
from qm.store.store import open_store

LIMIT_S = 300.0  # jobs compute only where nobody else does


async def test_a_job_waits_for_its_turn_to_run_a_model(tiny_llama: Path, tmp_path: Path) -> None:
    """It stands in the queue while another computes, and comes to its end after that."""
    store = open_store(tmp_path / "home")
    request = {"files": {"tiny.gguf": store.blobs.adopt(tiny_llama).digest}}
    create(store, Name.parse("tiny"), from_create_request(request), lambda _: None)
    before, board = signal.getsignal(signal.SIGALRM), Board()
    seat = board.sit()
    assert seat is not None
    mine = Turns(seat.fd, seat.number, weight=JOB_WEIGHT)  # a peer
    jobs = Jobs(tmp_path / "home", max_running=1, log_directory=tmp_path / "logs", board=board)
    try:
        mine.take()
        job = asyncio.create_task(_outcome(jobs, {"model": "tiny", "chunks": 1}))
        async with asyncio.timeout(LIMIT_S):
            while not (mine.contended and _steps(jobs) == [{"status": "measuring speed"}]):
                assert not job.done(), await job
                await asyncio.sleep(0.01)
        assert not job.done()
        mine.rest()
        async with asyncio.timeout(LIMIT_S):
            assert (await job)["status"] == "success"
        assert not mine.contended
    finally:
        await jobs.close()
        board.close()
        signal.signal(signal.SIGALRM, before)


def _steps(jobs: Jobs) -> list[JsonObject]:
    return [job["step"] for job in jobs.running()]


async def _outcome(jobs: Jobs, args: JsonObject) -> JsonObject:
    async with aclosing(jobs.run("evaluate", args)) as steps:
        return [step async for step in steps][-1]
