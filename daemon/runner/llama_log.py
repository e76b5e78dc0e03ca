"""llama.cpp's log: the one place where it says why something failed and what it allocated."""

from __future__ import annotations

import re
import sys
from collections import defaultdict, deque
from typing import Final

from qm.modelfiles.native import C

from ..devices import BufferBytes
from .failures import says_no_memory
from .wire import DeviceBytes

_GGML_WARN, _GGML_ERROR, _GGML_CONTINUED = 3, 4, 5
_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|compute)\s+buffer size\s*=\s*([\d.]+) MiB")
_FIELD: Final = {
    "model": "weights_bytes",
    "KV": "kv_bytes",
    "RS": "kv_bytes",
    "compute": "compute_bytes",
}
# What llama.cpp's own account of a context leaves out: adapters, and projectors.
_ADAPTER = re.compile(r"(\S+)\s+LoRA buffer size\s*=\s*([\d.]+) MiB")
_PROJECTOR = re.compile(r"(?:model size:|alloc_compute_meta:.*buffer size =)\s*([\d.]+) MiB")


class Log:
    """Takes llama.cpp's log: warnings go to stderr, errors and buffer sizes are remembered."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self._buffers: dict[str, dict[str, int]] = {}
        self._last_level = 0
        self._adapter_mebibytes: defaultdict[str, float] = defaultdict(float)
        self._projector_mebibytes = 0.0
        self.callback = C.llama_log_callback(self._on_line)  # referenced: C keeps a bare pointer
        C.llama_log_set(self.callback, None)

    def _on_line(self, level: int, text: bytes, _: object) -> None:
        if level == _GGML_CONTINUED:
            level = self._last_level
        self._last_level = level
        line = text.decode(errors="replace").rstrip()
        if match := _PROJECTOR.search(line):
            self._projector_mebibytes += float(match[1])
        elif match := _ADAPTER.search(line):
            self._adapter_mebibytes[match[1]] += float(match[2])
        elif match := _BUFFER.search(line):
            self._count(match[1], _FIELD[match[2]], float(match[3]))
        if level in (_GGML_WARN, _GGML_ERROR) and line:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        if level == _GGML_ERROR and line:
            self.errors.append(line)

    def _count(self, buffer: str, field: str, mebibytes: float) -> None:
        sizes = self._buffers.setdefault(_device(buffer), {})
        sizes[field] = sizes.get(field, 0) + int(mebibytes * 1024 * 1024)

    def memory(self) -> tuple[DeviceBytes, ...]:
        """What llama.cpp said that it allocated, by device."""
        return tuple(DeviceBytes(device, **sizes) for device, sizes in self._buffers.items())

    def beside(self, projector_device: str) -> tuple[BufferBytes, ...]:
        """What it said to have allocated for adapters and the projector."""
        sizes = [(_device(name), size) for name, size in self._adapter_mebibytes.items()]
        sizes.append((projector_device, self._projector_mebibytes))
        return tuple(
            BufferBytes("", device, weights_bytes=int(size * (1 << 20)))
            for device, size in sizes
            if size
        )

    def cause(self) -> str:
        """The word of `wire.Failed` for the last failure, which llama.cpp tells nowhere else."""
        return "out_of_memory" if says_no_memory(" ".join(self.errors)) else "load_failed"

    def explain(self, what: str) -> str:
        """`what`, and the last error line that says more than that it failed."""
        causes = [line for line in self.errors if "failed to load model" not in line]
        return f"{what}: {causes[-1]}" if causes else what


def _device(buffer: str) -> str:
    """`CPU` of `CPU_Mapped`: what the name of a buffer begins with."""
    return buffer.split("_", maxsplit=1)[0]
