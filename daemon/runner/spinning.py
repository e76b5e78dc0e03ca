"""How long the threads of a decode step wait for each other awake.

A step has hundreds of places where they wait. A thread that waits awake goes on at once; one that
sleeps costs a wake-up each time, a tenth of the speed and more. But where other processes compute
on the same cores, a thread that is awake for nothing keeps the one that it waits for from running,
and that can cost nine tenths. So they are patient while the cores are ours, and curt otherwise:

    spinning.start()   before each step
    spinning.look()    after it: finds out which it is, and changes over
    spinning.hush()    others, whom we know of, compute until the next step

Who sleeps often waits for a core when it wakes, others or not: how long curt threads wait tells
nothing. So they are curt for a while only, and then find out again.

libgomp reads both limits at its start (`environment`). It goes by the short one while it manages
more threads than there are CPUs, so a team of threads that only sleep changes it over.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

CROWDED: Final = 0.2  # part of the time that threads were ready to run, but others ran
FIRST_SPELL_S: Final = 0.25  # of computing, curtly, before patience is tried again
LONGEST_SPELL_S: Final = 4.0  # each trial costs about one slow step
_LEAST_S: Final = 0.05  # shorter than that tells nothing
_CALM_S: Final = 1.0  # for so long after a trial it is the same crowd that comes back
_MOST_IDLE_THREADS: Final = 16
_SCHEDSTAT: Final = "/proc/thread-self/schedstat"


@dataclass(slots=True)
class Crowding:
    """Whether others compute on our cores, told from how long we waited for one. Pure."""

    crowded: bool = False
    _spell_s: float = FIRST_SPELL_S
    _calm_s: float = _CALM_S
    _seconds: float = 0.0
    _waited_s: float = 0.0

    @property
    def window_s(self) -> float:
        """After so much computing it is decided anew."""
        return self._spell_s if self.crowded else _LEAST_S

    def observe(self, seconds: float, waited_s: float) -> bool:
        """Takes in that of `seconds` of computing so many were spent waiting for a core."""
        self._seconds += seconds
        self._waited_s += waited_s
        if self._seconds >= self.window_s:
            self._decide()
            self._seconds = self._waited_s = 0.0
        return self.crowded

    def _decide(self) -> None:
        if self.crowded:
            self.crowded, self._calm_s = False, 0.0
        elif self._waited_s > CROWDED * self._seconds:
            again = self._calm_s < _CALM_S
            self._spell_s = min(2 * self._spell_s, LONGEST_SPELL_S) if again else FIRST_SPELL_S
            self.crowded = True
        else:
            self._calm_s += self._seconds


class Spinning:
    """For the thread that starts the steps. Does nothing where there is no libgomp or no /proc."""

    def __init__(self, n_threads: int) -> None:
        self._crowding = Crowding()
        self._crowd: threading.Event | None = None  # ends the idle team
        self._hushed_s: float | None = None  # how long we had waited then
        self._nothing = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p)
        self._openmp = _openmp()
        n_cpus = self._openmp.omp_get_num_procs() if self._openmp else 0
        self._n_idle = max(n_cpus - n_threads, 0) + 2
        self._file = (
            _open_schedstat() if n_threads > 1 and self._n_idle < _MOST_IDLE_THREADS else -1
        )
        self._n_threads = n_threads
        self._begun_s = 0.0
        self._seconds = 0.0  # of steps since we last asked how long we waited
        self._waited_before_s = self._waited_s()

    @property
    def curt(self) -> bool:
        """Whether threads go to sleep soon."""
        return self._crowd is not None

    def start(self) -> None:
        """What happened until now was no step."""
        if self._hushed_s is not None:
            self._waited_before_s += self._waited_s() - self._hushed_s
            self._hushed_s = None
            self._change_over(curt=self._crowding.crowded)
        self._begun_s = time.perf_counter()

    def hush(self) -> None:
        """Sends our threads to sleep, which would else stay awake for a while after a step.

        They read the limit when they begin to wait; so they are called together once more, for
        nothing.
        """
        if self._file < 0 or self._openmp is None or self.curt:
            return
        self._hushed_s = self._waited_s()
        self._change_over(curt=True)
        self._openmp.GOMP_parallel(self._nothing, None, self._n_threads, 0)

    def look(self) -> None:
        """After a step."""
        if self._file < 0 or self._openmp is None:
            return
        self._seconds += time.perf_counter() - self._begun_s
        if self._seconds < self._crowding.window_s:
            return
        waited_s = self._waited_s()
        crowded = self._crowding.observe(self._seconds, waited_s - self._waited_before_s)
        self._seconds, self._waited_before_s = 0.0, waited_s
        self._change_over(curt=crowded)

    def _change_over(self, *, curt: bool) -> None:
        if curt and self._crowd is None:
            self._crowd, there = threading.Event(), threading.Event()
            idle = threading.Thread(target=self._idle, args=(there, self._crowd), daemon=True)
            idle.start()
            there.wait()
        elif not curt and self._crowd is not None:
            self._crowd.set()
            self._crowd = None

    def _idle(self, there: threading.Event, over: threading.Event) -> None:
        """Counts as a team of threads until `over`, when this thread ends, and they with it."""
        self._openmp.GOMP_parallel(self._nothing, None, self._n_idle, 0)
        there.set()
        over.wait()

    def _waited_s(self) -> float:
        """How long this thread was ready to run without a core."""
        return int(os.pread(self._file, 64, 0).split()[1]) / 1e9 if self._file >= 0 else 0.0


def _openmp() -> Any:  # Any: a library, or None
    try:
        return ctypes.CDLL("libgomp.so.1")
    except OSError:
        return None


def _open_schedstat() -> int:
    try:
        return os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
