"""One connection of a transfer: takes ranges, fetches them, writes them where they belong."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import QmError, Unavailable
from .connection import BROKEN, Answer, Connection
from .partial import Partial
from .retry import TRANSIENT, retry_after_s
from .throttle import Throttle
from .work import Task, Work

PIECE_BYTES = 2 << 20  # noted in the journal: what a kill may cost on each connection
BUFFER_BYTES = 1 << 20
LONGEST_WAIT_S = 300.0  # a server that wants more is told to the user
MAX_RESTARTS = 3
_FIRST_READ_BYTES = 64 << 10
_QUICK_S, _SLOW_S = 0.05, 0.5
_EXPIRED = frozenset({401, 403, 404, 410})
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class DownloadFailed(Unavailable):
    """The transfer can't go on now; what came is kept and the next try goes on from there."""

    code = "download_failed"


class _Trouble(Exception):
    """This try failed; another may not. `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None, *, crowded: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.crowded = crowded


class _Expired(_Trouble):
    """The link is of no use any more."""


@dataclass(slots=True)
class Fetcher:
    """What one thread of a transfer does."""

    label: str
    work: Work
    partial: Partial
    connection: Connection
    throttle: Throttle
    patience: int

    def run(self) -> None:
        """Until there is nothing left to fetch. What is beyond repair ends the whole transfer."""
        try:
            with self.connection:
                while (task := self.work.take()) is not None:
                    self._attempt(task)
        except QmError as error:
            self.work.stop(error)

    def _attempt(self, task: Task) -> None:
        expired = False
        try:
            self._fetch(task)
        except _Trouble as trouble:
            expired = isinstance(trouble, _Expired)
            self._failed(task, trouble)
        except BROKEN as error:
            self._failed(task, _Trouble(str(error) or type(error).__name__))
        finally:
            self.work.put_back(task)
        if expired:
            self.work.relocate(task.generation)

    def _failed(self, task: Task, trouble: _Trouble) -> None:
        self.connection.close()
        if self.work.must_leave:
            return
        self.work.failed(task, str(trouble), wait_s=trouble.wait_s, crowded=trouble.crowded)
        too_long = (trouble.wait_s or 0) > LONGEST_WAIT_S
        if too_long or self.work.failures >= self.patience:
            self.work.stop(self._give_up(trouble))

    def _give_up(self, trouble: _Trouble) -> DownloadFailed:
        have, size = self.work.have.total, self.work.size_bytes
        later = f" in {trouble.wait_s:.0f} seconds" if trouble.wait_s else ""
        return DownloadFailed(
            f"downloading {self.label} failed: {trouble}; {have} of {size} bytes are kept,"
            f" pull again{later} to go on"
        )

    def _fetch(self, task: Task) -> None:
        headers = {} if self.work.whole else {"Range": f"bytes={task.start}-{task.stop - 1}"}
        etag = self.partial.noted.etag
        if etag and headers:
            headers["If-Range"] = etag
        began_s = time.monotonic()
        answer = self.connection.get(task.located, headers)
        stop = self._accepted(task, answer)
        if stop is None:
            self.connection.close()
            return
        written = self._receive(answer, task.start, stop)
        if written < task.stop - task.start and not self.work.must_leave:
            raise _Trouble(f"the connection ended after {written} bytes")
        self.work.took(written, time.monotonic() - began_s)

    def _accepted(self, task: Task, answer: Answer) -> int | None:
        """Where the bytes that follow end; None if all begins anew. Raises _Trouble."""
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise _Trouble("the server sends its own compression")
        if answer.status == 206 and not self.work.whole:
            return self._accepted_part(task, answer)
        if answer.status == 200:
            return self._accepted_whole(answer)
        if answer.status == 416:
            self._restart(whole=False)
            return None
        self._refused(answer)
        return None

    def _accepted_part(self, task: Task, answer: Answer) -> int | None:
        match = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if match is None or (int(match[1]), int(match[3])) != (task.start, self.work.size_bytes):
            told = answer.headers.get("content-range", "nothing")
            raise _Trouble(f"the server sent other bytes than were asked for ({told})")
        if not self._is_same_file(answer):
            self._restart(whole=False)
            return None
        return min(task.stop, int(match[2]) + 1)

    def _accepted_whole(self, answer: Answer) -> int | None:
        if self.work.whole:
            return self.work.size_bytes
        same = self._is_same_file(answer) and bool(self.partial.noted.etag)
        self._restart(whole=same or not self.work.have.total)
        return None

    def _is_same_file(self, answer: Answer) -> bool:
        """By its strong etag; remembers the first one."""
        etag = answer.headers.get("etag", "")
        if not etag or etag.startswith("W/"):
            return True
        if not self.partial.noted.etag:
            self.partial.set_etag(etag)
        return etag == self.partial.noted.etag

    def _restart(self, *, whole: bool) -> None:
        if self.work.epoch >= MAX_RESTARTS:
            raise _Trouble("the file keeps changing at its source")
        self.work.ask_restart(whole=whole)

    def _refused(self, answer: Answer) -> None:
        reason = f"the server answered {answer.status}"
        if answer.status in _EXPIRED:
            raise _Expired(reason)
        wait_s = None
        if answer.status in TRANSIENT:
            wait_s = retry_after_s(answer.headers, datetime.now(UTC))
        raise _Trouble(reason, wait_s, crowded=answer.status in (429, 503))

    def _receive(self, answer: Answer, start: int, stop: int) -> int:
        """Writes what comes and notes it piece by piece; how many bytes that were."""
        view, read_bytes = memoryview(bytearray(BUFFER_BYTES)), _FIRST_READ_BYTES
        offset = noted = start
        try:
            while offset < stop and not self.work.must_leave:
                began_s = time.monotonic()
                n_bytes = answer.readinto(view[: min(read_bytes, stop - offset)])
                if n_bytes == 0:
                    break
                self._write(view[:n_bytes], offset)
                offset += n_bytes
                if offset - noted >= PIECE_BYTES:
                    noted = self._note(noted, offset)
                self.throttle.wait(n_bytes, lambda: self.work.must_leave)
                read_bytes = _next_read_bytes(read_bytes, time.monotonic() - began_s)
        finally:
            self._note(noted, offset)
        return offset - start

    def _write(self, data: memoryview, offset: int) -> None:
        missing_bytes = self.work.size_bytes - self.work.have.total
        self.partial.write(data, offset, self.label, missing_bytes)

    def _note(self, start: int, stop: int) -> int:
        if start < stop:
            self.partial.note_written(start, stop)
            self.work.wrote(start, stop)
        return stop


def _next_read_bytes(read_bytes: int, seconds: float) -> int:
    """Large reads are cheap, small ones tell sooner how far a slow connection got."""
    if seconds < _QUICK_S:
        return min(BUFFER_BYTES, read_bytes * 2)
    return max(_FIRST_READ_BYTES // 4, read_bytes // 2) if seconds > _SLOW_S else read_bytes
