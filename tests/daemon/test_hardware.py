"""What the machine has, from files as Linux writes them."""

from __future__ import annotations

import os
from pathlib import Path

from qm.daemon.hardware import anonymous_bytes, physical_cores, read_machine

GIB = 1 << 30


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def system(tmp_path: Path, available_kib: int = 8 << 20) -> tuple[Path, Path]:
    """A /proc and a cgroup root; this process is in the group /box."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "meminfo", f"MemTotal: 99999999 kB\nMemAvailable: {available_kib} kB\n")
    write(proc / "self" / "cgroup", "0::/box\n")
    cgroups.mkdir()
    return proc, cgroups


def test_this_machine_has_memory_and_cores() -> None:
    """The real files are understood."""
    machine = read_machine()
    assert 0 < machine.available_bytes <= machine.total_bytes
    assert 1 <= machine.n_cores <= (os.cpu_count() or 1)
    assert machine.n_cores == physical_cores()


def test_available_memory_is_the_kernels_own_estimate(tmp_path: Path) -> None:
    """Not the free memory, which says little."""
    machine = read_machine(*system(tmp_path, available_kib=3 << 20))
    assert machine.available_bytes == 3 * GIB


def test_a_cgroup_limit_holds(tmp_path: Path) -> None:
    """In a container the machine's memory is not ours; what can be dropped does not count."""
    proc, cgroups = system(tmp_path)
    write(cgroups / "box" / "memory.max", f"{2 * GIB}\n")
    write(cgroups / "box" / "memory.current", f"{3 * GIB // 2}\n")
    write(cgroups / "box" / "memory.stat", f"anon 1\ninactive_file {GIB}\nactive_file 0\n")
    machine = read_machine(proc, cgroups)
    assert machine.total_bytes == 2 * GIB
    assert machine.available_bytes == 3 * GIB // 2


def test_a_limit_holds_in_cgroups_of_version_1(tmp_path: Path) -> None:
    """Of the group and of those above; other controllers have groups of their own."""
    proc, cgroups = system(tmp_path)
    write(proc / "self" / "cgroup", "9:cpu:/other\n4:memory:/up/box\n0::/\n")
    box = cgroups / "memory" / "up" / "box"
    write(cgroups / "memory" / "memory.limit_in_bytes", "9223372036854771712\n")
    write(box.parent / "memory.limit_in_bytes", f"{3 * GIB}\n")
    write(box / "memory.limit_in_bytes", f"{2 * GIB}\n")
    write(box / "memory.usage_in_bytes", f"{GIB}\n")
    write(box / "memory.stat", f"inactive_file 0\ntotal_inactive_file {GIB // 2}\n")
    machine = read_machine(proc, cgroups)
    assert machine.total_bytes == 2 * GIB
    assert machine.available_bytes == 3 * GIB // 2


def test_a_limit_of_a_group_above_holds_too(tmp_path: Path) -> None:
    """Limits are inherited."""
    proc, cgroups = system(tmp_path)
    write(cgroups / "memory.max", f"{GIB}\n")
    write(cgroups / "box" / "memory.max", "max\n")
    assert read_machine(proc, cgroups).available_bytes == GIB


def test_a_full_group_has_nothing_available(tmp_path: Path) -> None:
    """Never less than nothing."""
    proc, cgroups = system(tmp_path)
    write(cgroups / "box" / "memory.max", "1000")
    write(cgroups / "box" / "memory.current", "2000")
    assert read_machine(proc, cgroups).available_bytes == 0


def test_anonymous_memory_of_a_process() -> None:
    """Ours is more than nothing; that of a process that has gone is nothing."""
    assert anonymous_bytes(os.getpid()) > 1 << 20
    assert anonymous_bytes(2**22 + 1) == 0
