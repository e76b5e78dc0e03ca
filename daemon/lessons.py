"""What loads taught about devices: how much more they take than llama.cpp accounts for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

_MOST_BYTES = 4 << 30  # a driver's context is some hundred MiB; more is somebody else's memory


class Lessons:
    """Bytes to keep free on each device beyond what a placement predicts; kept on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._extra_bytes = _read(path)

    def extra_bytes(self, device: str) -> int:
        return self._extra_bytes.get(device, 0)

    def learn(self, taught: Mapping[str, int]) -> None:
        """Takes the larger of what was known and what is `taught`, within reason."""
        news = {
            device: min(size, _MOST_BYTES)
            for device, size in taught.items()
            if size > self.extra_bytes(device)
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
