"""Quantising a file while it is still being converted: one pass over the weights.

Whoever quantises tells which tensor comes next, llama.cpp's quantiser in its log, and is made to
wait there until the conversion has written that tensor; so the bytes are those of two passes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock
from typing import TypeAlias

from qm.store.gguf import Header, read_header
from qm.store.writer import BlobWriter

from .register import Progress

Task: TypeAlias = Callable[[Path, Header, "Guard", Progress], str]
"""Quantises a file with such a header as the guard allows, and gives the blob's digest."""

Check: TypeAlias = Callable[[Path], object]
"""Raises what is wrong with a file of which only the head is written."""

_NOT_A_NUMBER = b"\xff\xff\xff\xff"  # as F32, F16 or BF16


class Unobserved(Exception):
    """The quantiser did not say of every tensor that it takes it next."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What a task asks before it takes a tensor, and before it keeps what it made."""

    wait_for: Callable[[str], None]
    confirm: Callable[[], object]


class Front:
    """How far a file is written whose tensors somebody waits for."""

    def __init__(self, header: Header) -> None:
        self._ends = {
            tensor.name: header.data_offset + tensor.offset + tensor.size_bytes
            for tensor in header.tensors
        }
        self._waited: set[str] = set()
        self._written_bytes = 0
        self._changed = Condition()

    def reached(self, written_bytes: int) -> None:
        with self._changed:
            self._written_bytes = written_bytes
            self._changed.notify()

    def wait_for(self, name: str) -> None:
        """Returns when the tensor is there; for an unknown name when all are."""
        end = self._ends.get(name) or max(self._ends.values(), default=0)
        with self._changed:
            self._waited.add(name)
            self._changed.wait_for(lambda: self._written_bytes >= end)

    def untouched(self) -> list[str]:
        """The tensors that nobody has read yet."""
        with self._changed:
            return [
                name
                for name, end in self._ends.items()
                if name not in self._waited or end > self._written_bytes
            ]

    def check(self) -> None:
        """Raises Unobserved unless every tensor was waited for."""
        if self._waited != set(self._ends):
            raise Unobserved


class Later:
    """Takes progress and keeps the last of each kind, until somebody wants to hear it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last: dict[object, dict[str, object]] = {}  # by status
        self._listener: Progress | None = None

    def __call__(self, item: dict[str, object]) -> None:
        with self._lock:
            self._last[item.get("status")] = item
            if self._listener is not None:
                self._listener(item)

    def tell(self, listener: Progress) -> None:
        with self._lock:
            self._listener = listener
            for item in self._last.values():
                listener(item)


class Ahead:
    """A task that is begun while its input is written by `writer`; see `beginning_ahead`."""

    def __init__(self, writer: BlobWriter, check: Check, task: Task) -> None:
        self._writer = writer
        self._check = check
        self._task = task
        self._checked: Future[object] = Future()
        self._front: Front | None = None
        self.header: Header | None = None
        self._result: Future[str] | None = None
        self._progress = Later()

    def laid_out(self, total_bytes: int) -> None:
        """Begins: the head of the file is written, the rest will come front to back.

        The check goes on beside the task, which keeps nothing before that has ended well.
        """
        self._writer.reserve(total_bytes)
        self.header = read_header(self._writer.path)
        self._front = Front(self.header)
        # its own: the quantiser may open the file when it has its name in the store already
        fd = os.open(self._writer.path, os.O_RDONLY)
        pool = ThreadPoolExecutor(2, thread_name_prefix="ahead")
        self._checked = pool.submit(self._check, _open_file(fd))
        self._result = pool.submit(self._run, fd, self.header, self._front)
        pool.shutdown(wait=False)

    def written(self, written_bytes: int) -> None:
        """Raises what the check raised, if it did by now."""
        if self._front is not None:
            self._front.reached(written_bytes)
        if self._checked.done():
            self._checked.result()

    def confirm(self) -> bool:
        """Whether it was begun; raises what the check of the file's head raised."""
        if self._result is not None:
            self._checked.result()
        return self._result is not None

    def result(self, on_progress: Progress) -> str | None:
        """What the task gave, None where it was not begun or can't be trusted."""
        if self._result is None:
            return None
        self._progress.tell(on_progress)
        with suppress(Unobserved):
            return self._result.result()
        return None

    def give_up(self) -> None:
        """Ends the task soon: what it has not read yet becomes numbers that it refuses."""
        if self._front is None or self.header is None or self._result is None:
            return
        try:
            self._spoil(self.header, set(self._front.untouched()))
        finally:
            self._front.reached(self.header.file_bytes)
            self._result.exception()

    def _spoil(self, header: Header, names: set[str]) -> None:
        with self._writer.path.open("r+b") as file:
            for tensor in header.tensors:
                if tensor.name in names:
                    file.seek(header.data_offset + tensor.offset)
                    file.write(_NOT_A_NUMBER)

    def _run(self, fd: int, header: Header, front: Front) -> str:
        guard = Guard(front.wait_for, self._checked.result)
        try:
            digest = self._task(_open_file(fd), header, guard, self._progress)
        finally:
            self._checked.exception()  # it reads the file too
            os.close(fd)
        front.check()
        return digest


def _open_file(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}")


@contextmanager
def beginning_ahead(writer: BlobWriter, check: Check, task: Task | None) -> Iterator[Ahead | None]:
    """Within it the conversion is written; None where the task has to wait for its end.

    Only Linux has the file in memory once for who writes and who maps it.
    """
    if task is None or sys.platform != "linux":
        yield None
        return
    ahead = Ahead(writer, check, task)
    try:
        yield ahead
        ahead.confirm()
    except BaseException:
        ahead.give_up()
        raise
