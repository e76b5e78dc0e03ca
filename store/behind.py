"""Hashing and flushing a file on threads of their own, while it is still being written."""

from __future__ import annotations

import os
from threading import Condition, Event, Thread
from typing import Protocol

from .hashing import CHUNK_BYTES


class Hasher(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> object: ...


_FLUSH_EVERY_S = 0.1
_flush = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter


class HashBehind:
    """Follows whoever writes the file front to back: `wrote` says how far it got.

    What was written is read back, so that nobody needs to keep the bytes for it.
    """

    def __init__(self, fd: int, hasher: Hasher) -> None:
        self._fd = fd
        self._hasher = hasher
        self._changed = Condition()
        self._written_bytes = 0
        self._is_over = False
        self._failed: OSError | None = None
        self._thread = Thread(target=self._follow, name="hash behind", daemon=True)
        self._thread.start()

    def wrote(self, total_bytes: int) -> None:
        """The first so many bytes of the file are what they will be."""
        with self._changed:
            self._written_bytes = total_bytes
            self._changed.notify()

    def give_up(self) -> None:
        """Ends it soon: nobody wants the digest any more."""
        with self._changed:
            self._written_bytes, self._is_over = 0, True
            self._changed.notify()
        self._thread.join()

    def finish(self) -> None:
        """Waits until all that was written is hashed; raises the OSError that reading met."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _follow(self) -> None:
        offset = 0
        while wanted := self._more_than(offset):
            try:
                data = os.pread(self._fd, min(CHUNK_BYTES, wanted - offset), offset)
            except OSError as error:
                self._failed = error
                return
            if not data:
                self._failed = OSError("the file lost what was written to it")
                return
            self._hasher.update(data)
            offset += len(data)

    def _more_than(self, offset: int) -> int:
        """How many bytes are written, once they are more than `offset`; 0 when no more will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._written_bytes > offset or self._is_over)
            return self._written_bytes if self._written_bytes > offset else 0


class FlushBehind:
    """Brings a growing file to the disk bit by bit, so that little is left for the last flush."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_over = Event()
        self._failed: OSError | None = None
        self._thread = Thread(target=self._follow, name="flush behind", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Stops; raises the OSError that flushing met, which the system tells only once."""
        self._is_over.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _follow(self) -> None:
        while not self._is_over.wait(_FLUSH_EVERY_S):
            try:
                _flush(self._fd)
            except OSError as error:
                self._failed = error
                return
