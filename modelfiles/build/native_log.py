"""llama.cpp's log during a build: errors are kept and printed, progress is told."""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from collections.abc import Callable

from ..native import C

_ERROR, _CONTINUED = 4, 5
# llama_model_quantize tells its progress in its log only, before it reads the tensor that it names:
# "[  12/ 272] blk.0.attn_k.weight - …"
_TENSOR = re.compile(r"^\[\s*(\d+)/\s*(\d+)\] (\S+)")


class _OfThread(threading.local):
    """What a thread that calls llama.cpp was told."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.last_level = 0


class NativeLog:
    """Takes llama.cpp's log for as long as it lives; make one in a process.

    Errors are known to the thread that met them, as one may check a file that another quantises.
    """

    def __init__(self) -> None:
        self._of_thread = _OfThread()
        self.on_tensor: Callable[[str, int, int], None] | None = None
        self.on_line: Callable[[str], None] | None = None
        self._callback = C.llama_log_callback(self._on_line)  # referenced: C keeps a bare pointer
        C.llama_log_set(self._callback, None)

    @property
    def errors(self) -> deque[str]:
        return self._of_thread.errors

    def last_words(self, what: str) -> str:
        """`what` failed, with llama.cpp's reason if it gave one."""
        return f"{what}: {self.errors[-1]}" if self.errors else what

    def _on_line(self, level: int, text: bytes, _: object) -> None:
        if level == _CONTINUED:
            level = self._of_thread.last_level
        self._of_thread.last_level = level
        line = text.decode(errors="replace").strip()
        if self.on_tensor is not None and (match := _TENSOR.match(line)):
            self.on_tensor(match[3], int(match[1]), int(match[2]))
        if self.on_line is not None:
            self.on_line(line)
        if level == _ERROR and line:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
            self.errors.append(line)


_log: list[NativeLog] = []


def native_log() -> NativeLog:
    """This process's log, taken over on first use."""
    if not _log:
        _log.append(NativeLog())
    return _log[0]
