"""Which bytes of a file are here: a set of half-open intervals. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Spans:
    """Disjoint, sorted intervals `[start, stop)`; touching ones are joined."""

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in spans:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._starts, offset) - 1
        return at >= 0 and offset < self._stops[at]

    @property
    def total(self) -> int:
        """How many bytes are in it."""
        return sum(self._stops) - sum(self._starts)

    @property
    def front(self) -> int:
        """How many bytes are here from the file's start, without a hole."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0

    def add(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        first, last = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last], self._stops[first:last] = [start], [stop]

    def remove(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        kept = [
            piece
            for low, high in self
            for piece in ((low, min(high, start)), (max(low, stop), high))
            if piece[0] < piece[1]
        ]
        self._starts, self._stops = [low for low, _ in kept], [high for _, high in kept]

    def first_gap(self, size: int) -> tuple[int, int] | None:
        """The first interval below `size` that is not in it."""
        start = self.front
        if start >= size:
            return None
        at = bisect_right(self._starts, start)
        return start, min(self._starts[at], size) if at < len(self._starts) else size
