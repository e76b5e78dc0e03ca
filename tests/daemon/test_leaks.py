"""Models come and go; descriptors, processes and memory do not stay.

`QM_SOAK=1`: 500 times; `QM_SOAK_LOADS` says how often, for less at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .runner.tiny_models import write_tiny_model
from .test_lifecycle import add_model, children, is_gone, loaded, until

if TYPE_CHECKING:
    from ..conftest import LiveDaemon

CYCLES = int(os.environ.get("QM_SOAK_LOADS") or (500 if os.environ.get("QM_SOAK") else 6))
GROWTH_BYTES = 24 << 20
ASKED = {
    "model": "smollm2",
    "prompt": "Hello " * 30,
    "raw": True,
    "stream": False,
    "options": {"temperature": 0, "num_predict": 4, "ignore_eos": True},
}


@dataclass(frozen=True, slots=True)
class Held:
    """What the daemon has open."""

    descriptors: int
    processes: int
    memory_bytes: int


def held(pid: int) -> Held:
    statm = Path(f"/proc/{pid}/statm").read_text().split()
    return Held(
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        processes=sum(not is_gone(child) for child in children(pid)),
        memory_bytes=int(statm[1]) * os.sysconf("SC_PAGE_SIZE"),
    )


def cycle(daemon: LiveDaemon) -> int:
    """Loads, answers, unloads; the runner that did it."""
    assert daemon.json("POST", "/api/generate", ASKED)["eval_count"] == 4
    (row,) = loaded(daemon)
    assert daemon.json("POST", "/qm/unload", {"model": "smollm2"}) == {"unloaded": True}
    assert loaded(daemon) == []
    return int(str(row["pid"]))


def test_loading_and_unloading_leaves_nothing_behind(
    start_daemon: Callable[..., LiveDaemon], tmp_path: Path
) -> None:
    """Every runner is another process and gone at once; the daemon is as it was."""
    daemon = start_daemon()
    add_model(daemon, write_tiny_model(tmp_path / "model.gguf", "llama"))
    for _ in range(2):
        cycle(daemon)
    before = held(daemon.process.pid)
    runners = {cycle(daemon) for _ in range(CYCLES)}
    assert len(runners) == CYCLES
    assert all(is_gone(pid) for pid in runners)

    def no_more() -> bool:
        after = held(daemon.process.pid)
        return after.descriptors <= before.descriptors and after.processes <= before.processes

    until(no_more, f"{held(daemon.process.pid)} is more than {before}")
    assert held(daemon.process.pid).memory_bytes < before.memory_bytes + GROWTH_BYTES
