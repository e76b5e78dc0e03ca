"""What loads taught about devices: how much more they take than llama.cpp accounts for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

SHORT_S = 600.0  # for which room that was not there is not counted on
_MOST_BYTES = 4 << 30  # a driver's context is some hundred MiB; more is somebody else's memory


class Lessons:
    """Bytes to keep free on each device beyond what a placement predicts; kept on disk.

    What a device could not give though it was told as free is kept for a while only: it may be
    somebody else's for now.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._extra_bytes = _read(path)
        self._short: dict[str, tuple[int, float]] = {}  # bytes, and until when

    def extra_bytes(self, device: str) -> int:
        return self._extra_bytes.get(device, 0) + self._short_bytes(device)

    def fell_short(self, missing: Mapping[str, int]) -> None:
        """Takes note of room that loads proved false."""
        until = self._clock() + SHORT_S
        self._short |= {
            device: (self._short_bytes(device) + size, until) for device, size in missing.items()
        }

    def _short_bytes(self, device: str) -> int:
        size, until = self._short.get(device, (0, 0.0))
        return size if self._clock() < until else 0

    def learn(self, taught: Mapping[str, int]) -> None:
        """Takes the larger of what was known and what is `taught`, within reason."""
        news = {
            device: min(size, _MOST_BYTES)
            for device, size in taught.items()
            if size > self._extra_bytes.get(device, 0)
        }
        if not news:
            return
        self._extra_bytes |= news
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_bytes(msgspec.json.encode(self._extra_bytes))
            temporary.rename(self._path)
        except OSError:  # learned for this daemon's life at least
            temporary.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.DecodeError):
        return {}
