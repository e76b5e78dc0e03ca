"""llama.cpp's log: the one place where it says why something failed and what it allocated."""

from __future__ import annotations

import re
import sys
from collections import deque
from typing import Final

from qm.modelfiles.native import C

from .wire import DeviceBytes

_GGML_WARN, _GGML_ERROR, _GGML_CONTINUED = 3, 4, 5
_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|compute)\s+buffer size\s*=\s*([\d.]+) MiB")
_FIELD: Final = {
    "model": "weights_bytes",
    "KV": "kv_bytes",
    "RS": "kv_bytes",
    "compute": "compute_bytes",
}
_NO_MEMORY: Final = (
    "out of memory",
    "failed to allocate",
    "unable to allocate",
    "insufficient memory",
)


class Log:
    """Takes llama.cpp's log: warnings go to stderr, errors and buffer sizes are remembered."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self._buffers: dict[str, dict[str, int]] = {}
        self._last_level = 0
        self.callback = C.llama_log_callback(self._on_line)  # referenced: C keeps a bare pointer
        C.llama_log_set(self.callback, None)

    def _on_line(self, level: int, text: bytes, _: object) -> None:
        if level == _GGML_CONTINUED:
            level = self._last_level
        self._last_level = level
        line = text.decode(errors="replace").rstrip()
        if match := _BUFFER.search(line):
            self._count(match[1], _FIELD[match[2]], float(match[3]))
        if level in (_GGML_WARN, _GGML_ERROR) and line:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        if level == _GGML_ERROR and line:
            self.errors.append(line)

    def _count(self, buffer: str, field: str, mebibytes: float) -> None:
        device = buffer.split("_", maxsplit=1)[0]
        sizes = self._buffers.setdefault(device, {})
        sizes[field] = sizes.get(field, 0) + int(mebibytes * 1024 * 1024)

    def memory(self) -> tuple[DeviceBytes, ...]:
        """What llama.cpp said that it allocated, by device."""
        return tuple(DeviceBytes(device, **sizes) for device, sizes in self._buffers.items())

    def cause(self) -> str:
        """The word of `wire.Failed` for the last failure, which llama.cpp tells nowhere else."""
        text = " ".join(self.errors).lower()
        return "out_of_memory" if any(words in text for words in _NO_MEMORY) else "load_failed"

    def explain(self, what: str) -> str:
        """`what`, and the last error line that says more than that it failed."""
        causes = [line for line in self.errors if "failed to load model" not in line]
        return f"{what}: {causes[-1]}" if causes else what
