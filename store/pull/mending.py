"""When all bytes are here and their digest is wrong: the same bytes again, piece by piece.

Only the digest of the whole is known, so nobody can tell which piece is wrong before it came twice.
Those whose transfer was disturbed come first, then what was never compared with anything, then the
beginnings that are as they were when they were noted. The first right digest ends it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..durable import disk_error
from .front import STEP_BYTES, Front
from .partial import Partial
from .spans import Spans
from .work import Work

PIECE_BYTES = 2 << 20
_TICK_S = 1.0


@dataclass(slots=True)
class Mending:
    """Has the fetchers of a transfer bring pieces anew; they retry and wait as ever."""

    work: Work
    partial: Partial
    front: Front
    digest: str

    def run(self) -> bool:
        """Whether the file became what it should be. Raises what ends a transfer."""
        if self.work.located is None:  # all of it was here before
            self.work.relocate(0)
        if self.work.whole:
            self._fetch(0, self.work.size_bytes)
            return self._digest_from(0) == self.digest
        return self._piecewise()

    def _piecewise(self) -> bool:
        """Looks at the digest where a run of pieces that differ begins, and where it ends."""
        work, in_a_run = self.work, False
        epoch, first = work.epoch, work.size_bytes  # the first piece that changed unseen
        for start, stop in pieces(work.size_bytes, work.troubled, self.front.stood_bytes):
            before = self._read(start, stop)
            self._fetch(start, stop)
            if work.epoch != epoch:  # the source's file changed, and all of it came anew
                return self._digest_from(0) == self.digest
            changed = self._read(start, stop) != before
            first = min(first, start) if changed else first
            if changed != in_a_run and first < work.size_bytes:
                if self._digest_from(first) == self.digest:
                    return True
                first = work.size_bytes
            in_a_run = changed
        return first < work.size_bytes and self._digest_from(first) == self.digest

    def _fetch(self, start: int, stop: int) -> None:
        """Returns when the piece has come again."""
        work = self.work
        self.partial.forget(start, stop)
        work.lost(start, stop)
        with work.changed:
            while not work.is_complete and work.error is None:
                work.changed.wait(_TICK_S)
        if work.error is not None:
            raise work.error

    def _read(self, start: int, stop: int) -> bytes:
        try:
            return os.pread(self.partial.data_fd, stop - start, start)
        except OSError as error:
            raise disk_error(error, "reading a download back") from error

    def _digest_from(self, first: int) -> str:
        """The file's digest, when everything before this offset is as it was."""
        front, number = self.front, first // STEP_BYTES
        hasher, at = front.states[number].copy(), number * STEP_BYTES
        del front.states[number + 1 :]
        while at < self.work.size_bytes:
            at = front.read_into(hasher, at, self.work.size_bytes)
            if at % STEP_BYTES == 0:
                front.states.append(hasher.copy())
        return f"sha256:{hasher.hexdigest()}"


def pieces(size_bytes: int, troubled: Spans, stood_bytes: int) -> list[tuple[int, int]]:
    """All pieces of a file, the likeliest to be wrong first."""

    def trust(piece: tuple[int, int]) -> tuple[bool, bool, int]:
        start, stop = piece
        disturbed = any(low < stop and start < high for low, high in troubled)
        return not disturbed, stop <= stood_bytes, start

    starts = range(0, size_bytes, PIECE_BYTES)
    return sorted(((at, min(at + PIECE_BYTES, size_bytes)) for at in starts), key=trust)
