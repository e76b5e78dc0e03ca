"""Whether a step has the room that it will need, found out before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from qm.store.durable import StoreFull
from qm.store.errors import QmError
from qm.store.layout import Layout

DISK_MARGIN_BYTES = 64 << 20
_MEMORY = Path("/proc/meminfo")


class NotEnoughMemory(QmError):
    """The machine has less memory free than a step needs."""

    status = 507
    code = "not_enough_memory"


def check_disk(layout: Layout, needed_bytes: int, what: str) -> None:
    """Raises StoreFull that says how much is missing."""
    status = os.statvfs(layout.partial)
    free_bytes = status.f_bavail * status.f_frsize
    wanted_bytes = needed_bytes + DISK_MARGIN_BYTES
    if free_bytes < wanted_bytes:
        raise StoreFull(
            f"no space left for {what}: {wanted_bytes} bytes are needed, {free_bytes} are free; "
            "free some with: qm rm, qm gc"
        )


def check_memory(needed_bytes: int, what: str) -> None:
    """Raises NotEnoughMemory; passes where the system does not tell what is available."""
    available_bytes = _available_bytes()
    if available_bytes is not None and available_bytes < needed_bytes:
        raise NotEnoughMemory(
            f"not enough memory for {what}: {needed_bytes} bytes are needed, {available_bytes} are "
            "available; unload a model with: qm stop"
        )


def _available_bytes() -> int | None:
    if not _MEMORY.exists():  # not Linux
        return None
    for line in _MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
