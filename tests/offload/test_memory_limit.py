"""A host that has less memory than it shows: a daemon in a memory group of the kernel's own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .asking import ASK, MIB, ask, loaded

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

LIMIT_BYTES = 330 * MIB  # smollm2 with a context of 512 fits, with 8192 it does not
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroup:
    """A group of processes with a limit, below the group of this process."""

    path: Path
    parent: Path

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Processes that are started meanwhile are in it."""
        self._enter(self.path)
        try:
            yield
        finally:
            self._enter(self.parent)

    @staticmethod
    def _enter(group: Path) -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    def n_times_full(self) -> int:
        """How often its processes wanted more than the limit: then the kernel swaps or kills."""
        events = self.path / "memory.events"
        if events.exists():
            (found,) = re.findall(r"^max (\d+)$", events.read_text(), re.MULTILINE)
            return int(found)
        return int((self.path / "memory.failcnt").read_text())


def _parent() -> tuple[Path, str]:
    """This process's memory group, and what the kernel calls its limit."""
    groups = Path("/proc/self/cgroup").read_text()
    if found := re.search(r"^\d+:(?:.*,)?memory(?:,.*)?:/(.*)$", groups, re.MULTILINE):
        return CGROUPS / "memory" / found[1], "memory.limit_in_bytes"
    found = re.search(r"^0::/(.*)$", groups, re.MULTILINE)
    return CGROUPS / (found[1] if found else ""), "memory.max"


@pytest.fixture
def memory_group() -> Iterator[MemoryGroup]:
    """Skipped where this user may make no groups, or the kernel gives them no limits."""
    parent, limit = _parent()
    path = parent / f"qm-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no memory group can be made here: {error}")
    try:
        if not (path / limit).exists():
            pytest.skip(f"{parent} gives its groups no memory limits")
        (path / limit).write_text(str(LIMIT_BYTES))
        yield MemoryGroup(path, parent)
    finally:
        path.rmdir()


def test_what_a_group_leaves_is_what_models_get(
    memory_group: MemoryGroup, start_daemon: Callable[..., LiveDaemon], home: Path
) -> None:
    """More than that is refused with the numbers, before anything is loaded; what fits answers,
    and the limit is never run into.
    """
    with memory_group.entered():
        daemon = start_daemon(home, QM_RPC="")
    host = json.loads(daemon.qm("doctor", "--json").stdout)["host"]
    assert host["total_bytes"] == LIMIT_BYTES
    asked = ASK | {"options": {"num_ctx": 8192, "num_predict": 1}}
    status, body = daemon.call("POST", "/api/generate", asked)
    assert status >= 400
    told = json.loads(body)["error"]
    assert "the model needs" in told
    assert "MiB are available" in told
    assert daemon.json("GET", "/api/ps")["models"] == []
    assert "Paris" in ask(daemon, num_ctx=512)
    assert loaded(daemon)["qm"]["actual_bytes"] < LIMIT_BYTES
    assert daemon.stop() == 0
    assert memory_group.n_times_full() == 0
