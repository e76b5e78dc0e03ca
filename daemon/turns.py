"""Turns on the CPU, for processes that each compute with all cores.

The threads of one decode step wait for each other at every layer. Where two processes decode at
once, each waits for threads that the other keeps from running, and both fall to a few percent of
their speed. So they take turns, a few steps at a time, by the time that each has used:

    turns.take()              before a step; waits while others are due
    turns.give(seconds)       after it; passes the turn on once this process is ahead of another
    turns.rest()              nothing to compute for now

What they share is one file without a name, inherited by every child. Its locks are the kernel's
and its owner's: they come back from whoever dies. Each is one of two: who holds the first has what
it is for, who holds the second is first in the queue, so that nobody can take it twice past one who
waits. `_ALL` is for computing at all; `_ANSWERS` come to that one after the other.

Turns are a courtesy. Who waits too long for a process that is stuck computes without one. A build
has a `weight`: its seconds count more, so it gets a small part of the time, and answers hardly wait
for it, since its steps may be long. Answers that go on beside it still wait for each other.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

SEATS: Final = 32
SLICE_S: Final = 0.02  # how far one may get ahead of another that waits
PATIENCE_S: Final = 3.0  # who holds the turn for longer has stopped, or isn't worth waiting for
JOB_WEIGHT: Final = 6.0  # a second of a build counts as so many of an answer
JOB_PATIENCE_S: Final = 0.05  # that an answer has with a build: many nodes of a small model's graph
IMPATIENCE_S: Final = 10.0  # and for so long nobody is waited for again
JOB_IMPATIENCE_S: Final = JOB_WEIGHT * JOB_PATIENCE_S  # builds come in long pieces; see `give`
_ALL, _ANSWERS = 0, 2  # a lock each, with its queue behind it
_SIZE_BYTES: Final = 2 * SEATS * 8


class Board:
    """The daemon's side: makes the shared file, and says who sits where."""

    def __init__(self) -> None:
        self.fd = _nameless_file()
        self._shared = _map(self.fd)
        self._free = set(range(SEATS))

    def sit(self) -> Seat | None:
        """A seat for a new process; None when all are taken."""
        return Seat(self.fd, self._free.pop(), self._leave) if self._free else None

    def _leave(self, number: int) -> None:
        self._shared[_wants(number)] = self._shared[_used(number)] = 0.0
        self._free.add(number)

    def close(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Seat:
    """A place at the board. The child inherits `fd` and gets `arguments`, for `Turns`."""

    fd: int
    number: int
    _leave: Callable[[int], None]

    @property
    def arguments(self) -> tuple[str, str]:
        return str(self.fd), str(self.number)

    def leave(self) -> None:
        """The process that sat here is reaped."""
        self._leave(self.number)


class Turns:
    """One process's side; for its main thread. Waits are timed with SIGALRM."""

    def __init__(self, fd: int, seat: int, *, weight: float = 1.0) -> None:
        """Of two who always want to compute, one of twice the `weight` gets half the time."""
        self._fd = fd
        self._weight = weight
        self._seat = seat
        self._shared = _map(fd)
        self._needed = (_ANSWERS, _ALL) if weight <= 1 else (_ALL,)
        self._held: set[int] = set()
        self._waiting = False
        self._hurry_until_s = {_ANSWERS: 0.0, _ALL: 0.0}
        signal.signal(signal.SIGALRM, self._on_alarm)

    @property
    def contended(self) -> bool:
        """Whether another process wants to compute that deserves as much as this one, or more."""
        return any(0 < weight <= self._weight for weight in self._others())

    def take(self) -> None:
        """Returns when it is this process's turn, or when there is no point in waiting for it."""
        if not self._shared[_wants(self._seat)]:
            self._join()
        for lock in self._needed:
            if lock not in self._held and not self._acquire(lock):
                return

    def give(self, seconds: float) -> bool:
        """Counts `seconds` of computing; the turn goes on to who has used less, if somebody has."""
        self._shared[_used(self._seat)] += seconds * self._weight
        least = self._least_used()
        if least is None or self._shared[_used(self._seat)] <= least + SLICE_S:
            return False
        self._release()
        return True

    def rest(self) -> None:
        """Leaves the queue."""
        if self._shared[_wants(self._seat)]:
            self._shared[_wants(self._seat)] = 0.0
            self._release()

    def _join(self) -> None:
        """Who comes back from a rest is due soon, but has saved up nothing."""
        least = self._least_used()
        if least is not None:
            used = max(self._shared[_used(self._seat)], least - SLICE_S)
            self._shared[_used(self._seat)] = used
        self._shared[_wants(self._seat)] = self._weight

    def _others(self) -> list[float]:
        """The weights of those who want to compute, and 0 for the others."""
        wants: list[float] = self._shared[:SEATS].tolist()
        del wants[self._seat]
        return wants

    def _least_used(self) -> float | None:
        """What the neediest of the others has used; None when nobody else wants to compute."""
        shared = self._shared
        own: float = shared[_wants(self._seat)]
        if float(sum(shared[:SEATS].tolist())) <= own:  # fast, for it is asked after every step
            return None
        others = (seat for seat in range(SEATS) if seat != self._seat)
        return min((shared[_used(seat)] for seat in others if shared[_wants(seat)]), default=None)

    def _release(self) -> None:
        for lock in self._held:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, lock)
        self._held.clear()

    def _acquire(self, lock: int) -> bool:
        """Queues for a lock; False when that took too long."""
        queue = lock + 1
        if self._lock(queue, lock) and self._lock(lock, lock):
            self._held.add(lock)
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, queue)
        return lock in self._held

    def _lock(self, which: int, lock: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, which)
        except (BlockingIOError, PermissionError):
            return time.monotonic() > self._hurry_until_s[lock] and self._wait_for(which, lock)
        return True

    def _wait_for(self, which: int, lock: int) -> bool:
        patience_s, impatience_s = PATIENCE_S * self._weight, IMPATIENCE_S
        if lock != self._needed[0]:  # only a build can have it
            patience_s, impatience_s = JOB_PATIENCE_S, JOB_IMPATIENCE_S
        try:
            self._waiting = True
            signal.setitimer(signal.ITIMER_REAL, patience_s, patience_s)
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, which)
            self._waiting = False  # from here on the alarm does nothing
        except _WaitedLongEnough:
            self._waiting = False
            self._hurry_until_s[lock] = time.monotonic() + impatience_s
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, which)  # it may have come just now
            return False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return True

    def _on_alarm(self, _signal: int, _frame: FrameType | None) -> None:
        if self._waiting:
            raise _WaitedLongEnough


class NoTurns(Turns):
    """For a process that computes alone, or leaves cores to others."""

    def __init__(self) -> None:
        pass

    @property
    def contended(self) -> bool:
        return False

    def take(self) -> None:
        pass

    def give(self, seconds: float) -> bool:
        return False

    def rest(self) -> None:
        pass


class _WaitedLongEnough(Exception):
    """Raised by the alarm, inside the wait for a lock."""


def _nameless_file() -> int:
    """A file that is shared by descriptor only, of zeros."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("qm-turns")
    else:
        import tempfile  # noqa: PLC0415  hardly any system needs it, and all would wait for it

        fd, path = tempfile.mkstemp(prefix="qm-turns-")
        os.unlink(path)  # noqa: PTH108  it never had more than this moment
    os.ftruncate(fd, _SIZE_BYTES)
    return fd


def _map(fd: int) -> Any:  # Any: a memoryview of doubles, whose items are read and written
    return memoryview(mmap.mmap(fd, _SIZE_BYTES)).cast("d")


def _wants(seat: int) -> int:
    """Where its weight stands while it wants to compute, else 0: all in a row, read at once."""
    return seat


def _used(seat: int) -> int:
    return SEATS + seat
