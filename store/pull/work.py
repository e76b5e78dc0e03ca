"""What the threads of one transfer share: who fetches what, how far it got, what went wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition

from ..errors import QmError
from .connection import Located
from .retry import backoff_s
from .spans import Spans

SEGMENT_BYTES = 16 << 20  # of one request, at first
LONGEST_SEGMENT_BYTES = 64 << 20
SEGMENT_S = 2.0  # a request should last about so long: then asking costs little
FIRST_CONNECTIONS = 4
PATIENCE = 8  # failures in a row, without a byte between them
_GAIN = 1.1  # one more connection must bring a tenth
_TUNE_S = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """Bytes for one connection to fetch; `generation` tells links apart that expire."""

    start: int
    stop: int
    located: Located
    generation: int


@dataclass(slots=True)
class Tuner:
    """How many connections are worth having. Pure: told the time and the bytes so far."""

    most: int
    allowed: int
    _since_s: float | None = None
    _bytes: int = 0
    _best_rate: float = 0.0
    _settled: bool = False

    def tick(self, now_s: float, total_bytes: int) -> None:
        """Adds one while adding helps."""
        if self._since_s is None:
            self._since_s, self._bytes = now_s, total_bytes
            return
        if now_s - self._since_s < _TUNE_S:
            return
        rate = (total_bytes - self._bytes) / (now_s - self._since_s)
        self._since_s, self._bytes = now_s, total_bytes
        if self._settled:
            return
        if rate > self._best_rate * _GAIN and self.allowed < self.most:
            self._best_rate = rate
            self.allowed += 1
        else:
            self._settled = True

    def refused(self) -> None:
        """The server has had enough of us."""
        self.allowed, self._settled = max(1, self.allowed - 1), True


@dataclass(slots=True)
class Work:
    """Guarded by `changed`, which wakes all who wait."""

    size_bytes: int
    have: Spans
    locate: Callable[[], Located]
    forget: Callable[[], None]  # empties the journal
    tuner: Tuner
    located: Located | None = None
    generation: int = 0
    whole: bool = False  # the server ignores ranges: one connection, from the start
    epoch: int = 0  # how often everything was begun anew
    fetched_bytes: int = 0
    failures: int = 0
    last_failure: str = ""
    stopping: bool = False
    error: QmError | None = None
    changed: Condition = field(default_factory=Condition)
    troubled: Spans = field(default_factory=Spans)  # what was asked for when something went wrong
    _taken: Spans = field(default_factory=Spans)
    _busy: int = 0
    _restart: bool = False
    _locating: bool = False
    _not_before_s: float = 0.0
    _segment_bytes: int = SEGMENT_BYTES

    @property
    def is_over(self) -> bool:
        return self.stopping or self.error is not None

    @property
    def must_leave(self) -> bool:
        """Whether a connection should drop what it is doing."""
        return self.is_over or self._restart

    @property
    def is_complete(self) -> bool:
        return self.have.total == self.size_bytes

    def take(self) -> Task | None:
        """The next bytes to fetch; waits for some. None when there is nothing more to do."""
        with self.changed:
            while not self.is_over:  # also when complete: bytes may yet turn out to be wrong
                self._restart_if_idle()
                wait_s = self._not_before_s - time.monotonic()
                span = self._next() if wait_s <= 0 and self._may_start() else None
                if span is not None and self.located is not None:
                    self._taken.add(*span)
                    self._busy += 1
                    return Task(*span, self.located, self.generation)
                self.changed.wait(wait_s if wait_s > 0 else 1.0)
            return None

    def put_back(self, task: Task) -> None:
        """What of it is not here may be taken again."""
        with self.changed:
            self._taken.remove(task.start, task.stop)
            self._busy -= 1
            self.changed.notify_all()

    def wrote(self, start: int, stop: int) -> None:
        with self.changed:
            self.have.add(start, stop)
            self.fetched_bytes += stop - start
            self.failures = 0
            self.changed.notify_all()

    def took(self, n_bytes: int, seconds: float) -> None:
        """How long a request lasted: the next ones are made to last about `SEGMENT_S`."""
        wanted = int(n_bytes / max(seconds, 1e-3) * SEGMENT_S) >> 20 << 20
        self._segment_bytes = max(SEGMENT_BYTES, min(LONGEST_SEGMENT_BYTES, wanted))

    def failed(
        self, task: Task, reason: str, *, wait_s: float | None = None, crowded: bool = False
    ) -> None:
        """A try went wrong; all connections wait a little before the next one."""
        with self.changed:
            self.troubled.add(task.start, task.stop)
            self.failures += 1
            self.last_failure = reason
            if crowded:
                self.tuner.refused()
            pause_s = backoff_s(self.failures, random.random())  # noqa: S311  spreads load
            self._not_before_s = time.monotonic() + (pause_s if wait_s is None else wait_s)
            self.changed.notify_all()

    def stop(self, error: QmError | None = None) -> None:
        with self.changed:
            self.stopping = True
            self.error = self.error or error
            self.changed.notify_all()

    def relocate(self, generation: int) -> None:
        """Asks for a new link, once for all whose link is the old one. Raises QmError."""
        with self.changed:
            while self._locating:
                self.changed.wait(1.0)
            if generation != self.generation or self.is_over:
                return
            self._locating = True
        try:
            located = self.locate()
        finally:
            with self.changed:
                self._locating = False
                self.changed.notify_all()
        self.place(located)

    def place(self, located: Located) -> None:
        """From now on bytes are fetched from there."""
        with self.changed:
            self.located, self.generation = located, self.generation + 1
            self.changed.notify_all()

    def ask_restart(self, *, whole: bool) -> None:
        """What is here is of another file, or `whole`: parts can't be had. Begins anew once all
        connections have left what they were doing.
        """
        with self.changed:
            self._restart = True
            self.whole = whole
            self.changed.notify_all()

    def lost(self, start: int, stop: int) -> None:
        """These bytes are not what they were; they are fetched again."""
        with self.changed:
            self.have.remove(start, stop)
            self.changed.notify_all()

    def _restart_if_idle(self) -> None:
        if self._restart and self._busy == 0:
            self.forget()
            self.have, self._taken = Spans(), Spans()
            self.epoch += 1
            self._restart = False

    def _may_start(self) -> bool:
        if self._restart:
            return False
        return self._busy < (1 if self.whole else self.tuner.allowed)

    def _next(self) -> tuple[int, int] | None:
        if self.is_complete:
            return None
        if self.whole:
            return (0, self.size_bytes)
        covered = Spans([*self.have, *self._taken])
        gap = covered.first_gap(self.size_bytes)
        return None if gap is None else (gap[0], min(gap[1], gap[0] + self._segment_bytes))
