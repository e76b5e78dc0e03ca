"""A transfer's first way, where its source has one: all bytes in order, out of one stream.

Writing, journal and digest are those of any transfer. A stream that breaks, stalls or ends early
leaves the rest to the fetchers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from threading import Thread
from typing import Protocol

from ..errors import QmError
from .fetching import PIECE_BYTES
from .partial import Partial
from .work import Work

_TICK_S = 0.1
_JOIN_LIMIT_S = 10.0
_log = logging.getLogger(__name__)


class StreamBroken(Exception):
    """No more comes this way."""


class Stream(Protocol):
    """Bytes from a file's start, once."""

    def __iter__(self) -> Generator[bytes]:
        """Raises StreamBroken."""
        ...

    def abort(self, reason: str) -> None:
        """From another thread: wakes the one that reads, and says why."""
        ...


@dataclass(slots=True)
class Streaming:
    """Writes what a stream brings, in a thread of its own."""

    label: str
    stream: Stream
    work: Work
    partial: Partial
    _came_bytes: int = 0
    _left: bool = False  # nothing is written any more

    def follow(self, on_progress: Callable[[int], None], stall_s: float) -> None:
        """Returns when no more will come; the work has what did."""
        thread = Thread(target=self._run, daemon=True)
        thread.start()
        reason = "the pull ended"
        try:
            if self._stalls(thread, on_progress, stall_s):
                reason = f"nothing came for {stall_s:.0f} s"
        finally:
            self._left = True
            if thread.is_alive():
                self.stream.abort(reason)
            thread.join(_JOIN_LIMIT_S)

    def _stalls(self, thread: Thread, on_progress: Callable[[int], None], stall_s: float) -> bool:
        """Waits for the end; whether it was waited for in vain."""
        came_bytes, since_s = 0, time.monotonic()
        while thread.is_alive() and not self.work.is_over:
            thread.join(_TICK_S)
            on_progress(self.work.have.total)
            if self._came_bytes != came_bytes:
                came_bytes, since_s = self._came_bytes, time.monotonic()
            elif time.monotonic() - since_s > stall_s:
                return True
        return False

    def _run(self) -> None:
        try:
            self._receive()
        except StreamBroken as error:
            reason, here = str(error)[:200], self._came_bytes
            _log.warning("stream_left file=%s bytes=%d reason=%s", self.label, here, reason)
        except QmError as error:
            self.work.stop(error)

    def _receive(self) -> None:
        """Raises StreamBroken, StoreFull, StoreFailed."""
        noted = 0
        try:
            with closing(iter(self.stream)) as pieces:
                for piece in pieces:
                    if self._left:
                        return
                    self._write(piece)
                    if self._came_bytes - noted >= PIECE_BYTES:
                        noted = self._note(noted)
        finally:
            self._note(noted)
        if self._came_bytes < self.work.size_bytes:
            raise StreamBroken(f"it ended after {self._came_bytes} bytes")

    def _write(self, piece: bytes) -> None:
        missing_bytes = self.work.size_bytes - self._came_bytes
        if len(piece) > missing_bytes:
            raise StreamBroken("it is longer than the file")
        self.partial.write(memoryview(piece), self._came_bytes, self.label, missing_bytes)
        self._came_bytes += len(piece)

    def _note(self, start: int) -> int:
        if start < self._came_bytes and not self._left:
            self.partial.note_written(start, self._came_bytes)
            self.work.wrote(start, self._came_bytes)
        return self._came_bytes
