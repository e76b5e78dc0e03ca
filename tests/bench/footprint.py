"""How quick the quick commands are, and how small an idle daemon is, against their budgets.

    .venv/bin/python tests/bench/footprint.py

Starts a daemon of its own in a temporary home. Wall times are medians of warm runs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

RUNS = 21
QM = Path(sys.executable).with_name("qm")
SETTLED_S = 1.0
SETTLE_LIMIT_S = 30.0
WARM = 2  # children of an idle daemon: a spare runner and a probe


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value and the most that it may be."""

    what: str
    value: float
    budget: float
    unit: str

    def __str__(self) -> str:
        verdict = "ok" if self.value <= self.budget else "TOO MUCH"
        return (
            f"{self.what:<28} {self.value:7.1f} {self.unit:<4} (at most {self.budget:g}) {verdict}"
        )


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ps."""

    pid: int
    parent: int
    rss_mib: float


def wall_ms(*arguments: str, env: dict[str, str]) -> float:
    """Median wall time of a qm command, after one run that warms the file cache."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run([QM, *arguments], env=env, capture_output=True, check=True)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[1:])


def processes() -> list[Process]:
    """All processes of this machine."""
    command = ["ps", "-A", "-o", "pid=,ppid=,rss="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = ([int(word) for word in line.split()] for line in lines)
    return [Process(pid, parent, rss_kib / 1024) for pid, parent, rss_kib in rows]


def idle_mib(daemon_pid: int) -> tuple[float, float]:
    """Resident memory of the daemon, and of the larger of its spare runner and its warm probe.

    Once all three have stopped growing.
    """
    deadline = time.monotonic() + SETTLE_LIMIT_S
    before: tuple[float, ...] = ()
    while time.monotonic() < deadline:
        found = processes()
        daemon = [process.rss_mib for process in found if process.pid == daemon_pid]
        children = [process.rss_mib for process in found if process.parent == daemon_pid]
        now = (*daemon, *children)
        if len(children) == WARM and now == before:
            return now[0], max(children)
        before = now
        time.sleep(SETTLED_S)
    raise SystemExit(f"the daemon did not come to rest with its warm children: {before}")


def measure(home: Path) -> list[Figure]:
    """Every figure, of a fresh daemon in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    env = kept | {
        "QM_HOME": str(home),
        "QM_SOCKET": str(home / "qm.sock"),
        "QM_HOST": "127.0.0.1:0",
    }
    help_ms = wall_ms("--help", env=env)
    daemon = subprocess.Popen([sys.executable, "-m", "qm.daemon"], env=env, stderr=subprocess.PIPE)
    try:
        list_ms = wall_ms("list", env=env)
        daemon_mib, spare_mib = idle_mib(daemon.pid)
    finally:
        daemon.terminate()
        daemon.communicate()
    return [
        Figure("qm --help", help_ms, 100, "ms"),
        Figure("qm list, daemon running", list_ms, 150, "ms"),
        Figure("idle daemon, resident", daemon_mib, 70, "MiB"),
        Figure("its larger warm child", spare_mib, 50, "MiB"),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="qm-", dir="/tmp") as directory:
        figures = measure(Path(directory))
    print(*figures, sep="\n")
    sys.exit(any(figure.value > figure.budget for figure in figures))
