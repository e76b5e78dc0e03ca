"""The digest of a file that is still arriving: follows the front of what is there without a hole.

Digests of beginnings are noted on the way. A resumed transfer reads what it has again and finds the
first bytes that are not what they were.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

from ..durable import disk_error
from ..errors import QmError
from .partial import Partial
from .work import Work

STEP_BYTES = 16 << 20
_READ_BYTES = 1 << 20


@dataclass(slots=True)
class Front:
    """What the hashing thread does; `digest` is set when it is through."""

    work: Work
    partial: Partial
    digest: str | None = None
    states: list[hashlib._Hash] = field(default_factory=list)  # after each whole step, from 0
    stood_bytes: int = 0  # a beginning that is what it was when it was noted

    def run(self) -> None:
        try:
            while not self.work.is_over and self.digest is None:
                self._follow()
        except QmError as error:
            self.work.stop(error)

    def beginnings(self) -> dict[int, str]:
        """The digest after each whole step."""
        return {
            number * STEP_BYTES: state.hexdigest()
            for number, state in enumerate(self.states)
            if number
        }

    def _follow(self) -> None:
        """From the last step that stands to the end, or until something begins anew."""
        epoch = self.work.epoch
        if not self.states:
            self.states = [hashlib.sha256()]
        hasher, at = self.states[-1].copy(), (len(self.states) - 1) * STEP_BYTES
        while at < self.work.size_bytes:
            front = self._wait(at, epoch)
            if front is None:
                return
            at = self.read_into(hasher, at, front)
            if at % STEP_BYTES == 0 and not self._stands(hasher, at, epoch):
                return
        with self.work.changed:
            self.digest = f"sha256:{hasher.hexdigest()}"
            self.work.changed.notify_all()

    def _wait(self, at: int, epoch: int) -> int | None:
        """How far one may read; None if this is over or begins anew."""
        with self.work.changed:
            while not self.work.is_over and self.work.epoch == epoch:
                if self.work.have.front > at:
                    return self.work.have.front
                self.work.changed.wait(1.0)
        if self.work.epoch != epoch:
            self.states = []
        return None

    def read_into(self, hasher: hashlib._Hash, at: int, front: int) -> int:
        """To the end of the step or the front, whichever comes first."""
        view = memoryview(bytearray(_READ_BYTES))
        stop = min(front, at // STEP_BYTES * STEP_BYTES + STEP_BYTES)
        while at < stop:
            try:
                n_bytes = os.preadv(self.partial.data_fd, [view[: min(_READ_BYTES, stop - at)]], at)
            except OSError as error:
                raise disk_error(error, "reading a download back") from error
            hasher.update(view[:n_bytes])
            at += n_bytes
        return at

    def _stands(self, hasher: hashlib._Hash, at: int, epoch: int) -> bool:
        """Whether the beginning is what it was when it was noted; notes it when it is new."""
        found = hasher.hexdigest()
        with self.work.changed:
            if self.work.epoch != epoch:
                return False
            known = self.partial.noted.beginnings.get(at)
            if known not in (None, found):
                self.partial.forget(at - STEP_BYTES, at)
                self.work.lost(at - STEP_BYTES, at)
                self.partial.noted.beginnings.pop(at)
                return False
            if known is None:
                self.partial.note_beginning(at, found)
            else:
                self.stood_bytes = at
        self.states.append(hasher.copy())
        return True
