"""The memory that this process may have: the machine's, within the limits of its cgroups.

Linux tells through /proc and cgroups, also inside containers; elsewhere the total is known and a
quarter of it is left to others.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class _GroupFiles:
    """What the kernel calls a memory group's limit, its use, and what of that is cached files."""

    limit: str
    current: str
    cached: tuple[str, ...]


_UNIFIED = _GroupFiles("memory.max", "memory.current", ("inactive_file ", "active_file "))
_SEPARATE = _GroupFiles(  # cgroups of version 1, where "no limit" is a very large number
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file ", "total_active_file "),
)


@dataclass(frozen=True, slots=True)
class Memory:
    """`available_bytes` can be had without pushing others to swap."""

    total_bytes: int
    available_bytes: int


def read_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> Memory:
    """As it is now."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = fields(proc / "meminfo").get("MemAvailable", total // 1024 * 3 // 4) * 1024
    for limit, used in _cgroup_limits(proc, cgroups):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return Memory(total, available)


def fields(path: Path) -> dict[str, int]:
    """Numbers of a "Name:   123 kB" file, in the file's unit."""
    return {name: int(number) for name, number in re.findall(r"(\w+):\s+(\d+)", read_text(path))}


def read_text(path: Path) -> str:
    """The text, or nothing where the system has no such file."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _cgroup_limits(proc: Path, cgroups: Path) -> list[tuple[int, int]]:
    """(limit, used) in bytes of this process's cgroup and of each one above it."""
    text = read_text(proc / "self" / "cgroup")
    limits: list[tuple[int, int]] = []
    for root, pattern, names in (
        (cgroups, r"^0::/(.*)$", _UNIFIED),
        (cgroups / "memory", r"^\d+:(?:.*,)?memory(?:,.*)?:/(.*)$", _SEPARATE),
    ):
        group = re.search(pattern, text, re.MULTILINE)
        directory = root / group[1] if group else root
        while directory == root or root in directory.parents:
            limit = read_text(directory / names.limit).strip()
            if limit.isdigit():
                limits.append((int(limit), _cgroup_use(directory, names)))
            directory = directory.parent
    return limits


def _cgroup_use(directory: Path, names: _GroupFiles) -> int:
    """What the group holds and can't give back: file pages that are cached can be dropped."""
    current = read_text(directory / names.current).strip()
    cached = sum(
        int(line.split()[1])
        for line in read_text(directory / "memory.stat").splitlines()
        if line.startswith(names.cached)
    )
    return max(0, int(current) - cached) if current.isdigit() else 0
