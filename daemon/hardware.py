"""What this machine has: cores to compute on and memory to load into."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from qm.modelfiles.memory import CGROUPS, PROC, fields, read_memory, read_text

_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that placement needs. `available_bytes` can be had without pushing others to swap;
    `limited_by` names the setting that allows no more.
    """

    total_bytes: int
    available_bytes: int
    n_cores: int  # physical ones that this process may use
    limited_by: str = ""

    def limited(self, most_bytes: int, setting: str) -> Machine:
        """The same where a setting allows so much; 0 is no limit."""
        if not 0 < most_bytes < self.available_bytes:
            return self
        return replace(self, available_bytes=most_bytes, limited_by=setting)


def read_machine(proc: Path = PROC, cgroups: Path = CGROUPS) -> Machine:
    """The machine as it is now; cheap enough to ask for every load."""
    memory = read_memory(proc, cgroups)
    return Machine(memory.total_bytes, memory.available_bytes, physical_cores())


def anonymous_bytes(pid: int, proc: Path = PROC) -> int:
    """Memory of a process that is its own: not the pages of a mapped model file."""
    return fields(proc / str(pid) / "status").get("RssAnon", 0) * 1024


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
    text = read_text(_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list")
    first = re.match(r"\d+", text)
    return int(first[0]) if first else cpu


def _quota() -> int | None:
    """Whole CPUs that the cgroup grants, at least one; None without a limit."""
    quota, _, period = read_text(CGROUPS / "cpu.max").strip().partition(" ")
    if not (quota.isdigit() and period.isdigit()):
        return None
    return max(1, int(quota) // int(period))
