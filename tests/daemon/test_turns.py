"""Turns on the CPU, taken by real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from qm.daemon import turns
from qm.daemon.turns import Board, Seat

LIMIT_S = 30.0

# Computes in steps of STEP seconds, N times; prints when each began and ended.
_WORKER = """
import sys, time
from qm.daemon import turns
turns.PATIENCE_S, turns.JOB_PATIENCE_S = map(float, sys.argv[6:8])
turns.IMPATIENCE_S = 0.5
mine = turns.Turns(int(sys.argv[1]), int(sys.argv[2]), weight=float(sys.argv[5]))
step, n = float(sys.argv[3]), int(sys.argv[4])
print("up", flush=True)
sys.stdin.readline()
for _ in range(n):
    mine.take()
    print("in", flush=True)
    start = time.monotonic()
    time.sleep(step)
    end = time.monotonic()
    mine.give(end - start)
    print(start, end, flush=True)
mine.rest()
print("over", flush=True)
sys.stdin.readline()
"""


class Worker:
    """One process at the board."""

    def __init__(
        self,
        seat: Seat | None,
        step_s: float,
        n: int,
        *,
        weight: float = 1.0,
        patience_s: float = LIMIT_S,
        job_patience_s: float = LIMIT_S,
    ) -> None:
        assert seat is not None
        self.seat = seat
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _WORKER, *seat.arguments),
                *map(str, (step_s, n, weight, patience_s, job_patience_s)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(seat.fd,),
        )
        assert self.line() == "up"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def steps(self) -> list[tuple[float, float]]:
        """All of its steps; waits for the last."""
        found = []
        while (line := self.line()) not in ("over", ""):
            if line == "in":
                continue
            start, end = map(float, line.split())
            found.append((start, end))
        return found

    def end(self) -> None:
        with self.process:
            self.process.kill()


@pytest.fixture
def board() -> Iterator[Board]:
    """A board without processes."""
    board = Board()
    yield board
    board.close()


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """Workers in here are ended with the test."""
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.end()


def overlaps(steps: list[tuple[float, float]]) -> int:
    """How many steps began before another had ended."""
    ordered = sorted(steps)
    return sum(later[0] < earlier[1] for earlier, later in pairwise(ordered))


def test_no_two_compute_at_once(board: Board, workers: list[Worker]) -> None:
    """Three processes, never two in a step; all come to their end."""
    workers += [Worker(board.sit(), 0.004, 40) for _ in range(3)]
    for worker in workers:
        worker.go()
    steps = [worker.steps() for worker in workers]
    assert [len(one) for one in steps] == [40, 40, 40]
    assert overlaps([step for one in steps for step in one]) == 0


def test_long_steps_get_no_more_time_than_short_ones(board: Board, workers: list[Worker]) -> None:
    """Time is shared, not steps: the short steps together last about as long as the long ones."""
    workers += [Worker(board.sit(), 0.04, 12), Worker(board.sit(), 0.004, 120)]
    for worker in workers:
        worker.go()
    long, short = (worker.steps() for worker in workers)
    both_until = min(long[-1][1], short[-1][1])
    used = [sum(end - start for start, end in one if end <= both_until) for one in (long, short)]
    assert 0.5 < used[0] / used[1] < 2.0


def test_the_turn_of_a_dead_process_comes_back(board: Board, workers: list[Worker]) -> None:
    """kill -9 in the middle of a step: the kernel frees the lock at once."""
    workers += [Worker(board.sit(), 60.0, 1), Worker(board.sit(), 0.001, 5)]
    workers[0].go()
    assert workers[0].line() == "in"
    workers[0].process.kill()
    workers[0].process.wait(LIMIT_S)
    workers[1].go()
    assert len(workers[1].steps()) == 5


def test_a_stopped_process_does_not_stop_the_others(board: Board, workers: list[Worker]) -> None:
    """Who holds the turn and is frozen is waited for once, not at every step."""
    workers += [Worker(board.sit(), 60.0, 1), Worker(board.sit(), 0.001, 50, patience_s=0.3)]
    workers[0].go()
    assert workers[0].line() == "in"
    os.kill(workers[0].process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    workers[1].go()
    assert len(workers[1].steps()) == 50
    assert time.monotonic() - begun < 50 * 0.3
    os.kill(workers[0].process.pid, signal.SIGCONT)


def test_a_seat_is_free_again_once_it_is_left(board: Board) -> None:
    """A board never runs out through processes that came and went."""
    seats = [board.sit() for _ in range(33)]
    assert seats[-1] is None
    assert seats[0] is not None
    seats[0].leave()
    again = board.sit()
    assert again is not None
    assert again.number == seats[0].number


def test_a_build_gets_a_small_part_of_the_time(board: Board, workers: list[Worker]) -> None:
    """Beside an answer that always computes it goes on, with less than half of that one's time."""
    workers += [
        Worker(board.sit(), 0.004, 200, weight=weight) for weight in (1.0, turns.JOB_WEIGHT)
    ]
    for worker in workers:
        worker.go()
    answer, build = (worker.steps() for worker in workers)
    beside = [step for step in build if answer[0][0] < step[0] < answer[-1][1]]
    assert beside
    assert seconds(beside) < seconds(answer) / 2
    assert len(build) == 200


def test_answers_hardly_wait_for_a_build_that_stands_still(
    board: Board, workers: list[Worker]
) -> None:
    """Whatever keeps it from its next step, an answer goes on without having had its turn."""
    workers += [
        Worker(board.sit(), 60.0, 1, weight=turns.JOB_WEIGHT),
        Worker(board.sit(), 0.001, 50, job_patience_s=0.05),
    ]
    workers[0].go()
    assert workers[0].line() == "in"
    workers[1].go()
    assert len(workers[1].steps()) == 50
    assert workers[0].process.poll() is None


def test_answers_take_turns_beside_a_build_that_stands_still(
    board: Board, workers: list[Worker]
) -> None:
    """They give up waiting for it, not for each other."""
    workers += [
        Worker(board.sit(), 60.0, 1, weight=turns.JOB_WEIGHT),
        *(Worker(board.sit(), 0.004, 40, job_patience_s=0.05) for _ in range(2)),
    ]
    build, *answers = workers
    build.go()
    assert build.line() == "in"
    for answer in answers:
        answer.go()
    steps = [answer.steps() for answer in answers]
    assert [len(one) for one in steps] == [40, 40]
    assert overlaps([step for one in steps for step in one]) == 0
    assert build.process.poll() is None


def seconds(steps: list[tuple[float, float]]) -> float:
    return sum(end - start for start, end in steps)
