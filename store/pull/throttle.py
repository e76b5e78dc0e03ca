"""A limit on bytes a second, shared by all connections of a transfer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

LONGEST_SLEEP_S = 0.5


@dataclass(slots=True)
class Throttle:
    """Lends bytes ahead and makes the borrower wait until they are due."""

    bytes_per_s: float | None
    clock: Callable[[], float] = time.monotonic
    _due_s: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def delay_s(self, n_bytes: int) -> float:
        """How long whoever got `n_bytes` must wait before the next ones."""
        if not self.bytes_per_s:
            return 0.0
        with self._lock:
            now = self.clock()
            self._due_s = max(self._due_s, now) + n_bytes / self.bytes_per_s
            return self._due_s - now

    def wait(self, n_bytes: int, is_over: Callable[[], bool]) -> None:
        """Waits in short sleeps, so that a stop is heard."""
        left_s = self.delay_s(n_bytes)
        while left_s > 0 and not is_over():
            nap_s = min(left_s, LONGEST_SLEEP_S)
            time.sleep(nap_s)
            left_s -= nap_s
