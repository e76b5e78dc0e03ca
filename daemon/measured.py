"""What llama.cpp's dry runs said, kept by weights, so that no question is asked twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from .devices import BufferBytes, Devices
from .runner.wire import Placement

_MAX_ENTRIES = 200  # of one model; the oldest make room
_Entries = dict[str, tuple[BufferBytes, ...]]


def measure_key(
    placement: Placement,
    devices: Devices,
    *,
    embedding: bool,
    projector: str | None = None,
    draft: str | None = None,
) -> str:
    """What a dry run's result depends on, beside the weights."""
    described = [
        (one.name, one.description, one.total_bytes)
        for one in devices.gpus
        if one.name in placement.devices
    ]
    facts = (
        *(placement.n_ctx, placement.n_batch, placement.n_ubatch, placement.n_parallel),
        *(placement.layers, placement.n_gpu_layers, placement.devices, placement.kv_type),
        [(one.pattern, one.device) for one in placement.overrides],
        *(placement.flash_attention, described, devices.binding, embedding),
        *(projector, draft, placement.companions_on_gpu),
    )
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:24]


class Measurements:
    """Dry runs' results of one model, in a file that may vanish at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _read(path)

    def get(self, key: str) -> tuple[BufferBytes, ...] | None:
        return self._entries.get(key)

    def put(self, key: str, buffers: tuple[BufferBytes, ...]) -> None:
        """Keeps it, here and on disk; a full disk costs only the second."""
        self._entries[key] = buffers
        while len(self._entries) > _MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_bytes(msgspec.json.encode(self._entries))
            temporary.rename(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)


def _read(path: Path) -> _Entries:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Entries)
    except (OSError, msgspec.DecodeError):
        return {}  # measured again when it is needed
