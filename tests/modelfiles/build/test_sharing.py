"""A build's turns on the CPU."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from qm.daemon.jobs import Jobs, JsonObject
from qm.daemon.turns import JOB_WEIGHT, Board, Turns
from qm.modelfiles.build.create import create
from qm.modelfiles.create_request import from_create_request
from qm.store.name import Name
from qm.store.store import open_store

from tests.daemon.runner.tiny_models import write_tiny_model

LIMIT_S = 300.0  # jobs compute only where nobody else does
QUANTIZE = {"name": "small", "request": {"from": "tiny", "quantize": "Q8_0"}}

# Reads a chunk of text with the model MODEL, in turns with others at the board.
_READER = """
import sys
from pathlib import Path
from qm.daemon.runner.isolation import forgo_amx
from qm.daemon.turns import JOB_WEIGHT, Turns
from qm.modelfiles.build.queue import line_up
forgo_amx()
line_up(Turns(int(sys.argv[1]), int(sys.argv[2]), weight=JOB_WEIGHT))
from qm.modelfiles.build.native_model import CHUNK_TOKENS, loaded
with loaded([Path(sys.argv[3])], n_outputs=1) as model:
    model.decode([5] * CHUNK_TOKENS, outputs_from=CHUNK_TOKENS - 1)
print("read", flush=True)
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.gguf", "llama")


@pytest.fixture
def board() -> Iterator[Board]:
    before, board = signal.getsignal(signal.SIGALRM), Board()
    yield board
    board.close()
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def mine(board: Board) -> Turns:
    """What a peer of builds has, whom they must wait for."""
    seat = board.sit()
    assert seat is not None
    return Turns(seat.fd, seat.number, weight=JOB_WEIGHT)


def test_a_model_is_run_in_turns(board: Board, mine: Turns, weights: Path) -> None:
    """Not before another is through; a SIGTERM meanwhile ends it at once."""
    for ends in ("read", ""):
        mine.take()
        seat = board.sit()
        assert seat is not None
        with subprocess.Popen(
            [sys.executable, "-c", _READER, *seat.arguments, str(weights)],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(seat.fd,),
        ) as reader:
            deadline_s = time.monotonic() + LIMIT_S
            while not mine.contended and time.monotonic() < deadline_s:
                assert reader.poll() is None
                time.sleep(0.01)
            if ends:
                mine.rest()
            else:
                reader.terminate()
            assert reader.stdout is not None
            assert reader.stdout.read().strip() == ends
        assert reader.wait(LIMIT_S) == (0 if ends else -signal.SIGTERM)
        seat.leave()


async def test_a_job_waits_for_its_turn(
    board: Board, mine: Turns, weights: Path, tmp_path: Path
) -> None:
    """It stands in the queue while another computes, and comes to its end after that."""
    home = tmp_path / "home"
    store = open_store(home)
    files = {"tiny.gguf": store.blobs.adopt(weights).digest}
    create(store, Name.parse("tiny"), from_create_request({"files": files}), lambda _: None)
    jobs = Jobs(home, max_running=1, log_directory=tmp_path / "logs", board=board)
    try:
        mine.take()
        job = asyncio.create_task(_outcome(jobs, "create", QUANTIZE))
        async with asyncio.timeout(LIMIT_S):
            while not mine.contended:
                assert not job.done(), await job
                await asyncio.sleep(0.01)
        assert not job.done()
        mine.rest()
        async with asyncio.timeout(LIMIT_S):
            steps = await job
        assert steps[-1]["status"] == "success"
        assert not mine.contended
    finally:
        await jobs.close()


async def _outcome(jobs: Jobs, kind: str, args: JsonObject) -> list[JsonObject]:
    async with aclosing(jobs.run(kind, args)) as steps:
        return [step async for step in steps]
