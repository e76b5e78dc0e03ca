"""What this machine has: cores to compute on and memory to load into.

Linux tells through /proc and cgroups, also inside containers; elsewhere the total is known and a
quarter of it is left to others.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")


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
class Machine:
    """Facts that placement needs. `available_bytes` can be had without pushing others to swap."""

    total_bytes: int
    available_bytes: int
    n_cores: int  # physical ones that this process may use


def read_machine(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Machine:
    """The machine as it is now; cheap enough to ask for every load."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = _fields(proc / "meminfo")
    available = meminfo.get("MemAvailable", total // 1024 * 3 // 4) * 1024
    for limit, used in _cgroup_limits(proc, cgroups):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return Machine(total, available, physical_cores())


def anonymous_bytes(pid: int, proc: Path = _PROC) -> int:
    """Memory of a process that is its own: not the pages of a mapped model file."""
    return _fields(proc / str(pid) / "status").get("RssAnon", 0) * 1024


@cache
def physical_cores() -> int:
    """Cores without their hyperthread siblings, within this process's affinity and CPU quota."""
    allowed = _affinity()
    cores = {_first_sibling(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota() or len(cores)))


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _first_sibling(cpu: int) -> int:
    text = _read(_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list")
    first = re.match(r"\d+", text)
    return int(first[0]) if first else cpu


def _quota() -> int | None:
    """Whole CPUs that the cgroup grants, at least one; None without a limit."""
    quota, _, period = _read(_CGROUPS / "cpu.max").strip().partition(" ")
    if not (quota.isdigit() and period.isdigit()):
        return None
    return max(1, int(quota) // int(period))


def _cgroup_limits(proc: Path, cgroups: Path) -> list[tuple[int, int]]:
    """(limit, used) in bytes of this process's cgroup and of each one above it."""
    text = _read(proc / "self" / "cgroup")
    limits: list[tuple[int, int]] = []
    for root, pattern, names in (
        (cgroups, r"^0::/(.*)$", _UNIFIED),
        (cgroups / "memory", r"^\d+:(?:.*,)?memory(?:,.*)?:/(.*)$", _SEPARATE),
    ):
        group = re.search(pattern, text, re.MULTILINE)
        directory = root / group[1] if group else root
        while directory == root or root in directory.parents:
            limit = _read(directory / names.limit).strip()
            if limit.isdigit():
                limits.append((int(limit), _cgroup_use(directory, names)))
            directory = directory.parent
    return limits


def _cgroup_use(directory: Path, names: _GroupFiles) -> int:
    """What the group holds and can't give back: file pages that are cached can be dropped."""
    current = _read(directory / names.current).strip()
    cached = sum(
        int(line.split()[1])
        for line in _read(directory / "memory.stat").splitlines()
        if line.startswith(names.cached)
    )
    return max(0, int(current) - cached) if current.isdigit() else 0


def _fields(path: Path) -> dict[str, int]:
    """Numbers of a "Name:   123 kB" file, in the file's unit."""
    return {name: int(number) for name, number in re.findall(r"(\w+):\s+(\d+)", _read(path))}


def _read(path: Path) -> str:
    """The text, or nothing where the system has no such file."""
    try:
        return path.read_text()
    except OSError:
        return ""
