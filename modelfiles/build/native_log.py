"""llama.cpp's log during a build: errors are kept and printed, progress is told."""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..native import C

_ERROR, _CONTINUED = 4, 5
# llama_model_quantize tells its progress in its log only, before it reads the tensor that it names:
# "[  12/ 272] blk.0.attn_k.weight - …"
_TENSOR = re.compile(r"^\[\s*(\d+)/\s*(\d+)\] (\S+)")


class _OfThread(threading.local):
    """What a thread that calls llama.cpp was told, and wants to be told."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.last_level = 0
        self.on_tensor: Callable[[str, int, int], None] | None = None
        self.on_line: Callable[[str], None] | None = None


class NativeLog:
    """Takes llama.cpp's log for as long as it lives; make one in a process.

    Each thread hears what it caused, as one may check a file that another quantises.
    """

    def __init__(self) -> None:
        self._of_thread = _OfThread()
        self._callback = C.llama_log_callback(self._on_line)  # referenced: C keeps a bare pointer
        self.take_over()

    def take_over(self) -> None:
        """From now on the log is told to this one alone."""
        C.llama_log_set(self._callback, None)

    @property
    def errors(self) -> deque[str]:
        return self._of_thread.errors

    @contextmanager
    def telling(
        self,
        *,
        on_tensor: Callable[[str, int, int], None] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Iterator[None]:
        """Within it this thread hears of each tensor that is quantised next, or of every line."""
        self.errors.clear()
        self._of_thread.on_tensor, self._of_thread.on_line = on_tensor, on_line
        try:
            yield
        finally:
            self._of_thread.on_tensor = self._of_thread.on_line = None

    def last_words(self, what: str) -> str:
        """`what` failed, with llama.cpp's reason if it gave one."""
        return f"{what}: {self.errors[-1]}" if self.errors else what

    def _on_line(self, level: int, text: bytes, _: object) -> None:
        told = self._of_thread
        if level == _CONTINUED:
            level = told.last_level
        told.last_level = level
        line = text.decode(errors="replace").strip()
        if told.on_tensor is not None and (match := _TENSOR.match(line)):
            told.on_tensor(match[3], int(match[1]), int(match[2]))
        if told.on_line is not None:
            told.on_line(line)
        if level == _ERROR and line:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
            self.errors.append(line)


_log: list[NativeLog] = []
_first_use = threading.Lock()


def native_log() -> NativeLog:
    """This process's log, taken over on first use, by whichever thread that is."""
    with _first_use:
        if not _log:
            _log.append(NativeLog())
        return _log[0]
