"""kill -9 of a daemon, or of its job, before a change of the store that either makes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from qm.store.claims import CLAIM_AGE_S
from qm.store.gc import collect
from qm.store.store import open_store
from qm.store.verify import verify_store

from tests.conftest import LiveDaemon
from tests.crash.conftest import SOAK
from tests.fakehub import FakeHub
from tests.modelfiles.build.tiny_llama import write_tiny_llama

STEPPING = Path(__file__).with_name("stepping")
MODEL = "hf.co/org/tiny"
PLACES = 60  # of all steps, evenly, when there is time
STEP = {"pull": 20, "rm": 2}  # the one place when there is none
LONG = [(work, whom) for work in ("pull", "create") for whom in ("worker", "daemon")]
COMBINATIONS = [*LONG, ("rm", "daemon"), ("gc", "daemon")] if SOAK else [LONG[0], ("rm", "daemon")]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    (tmp_path / "repos/org/tiny").mkdir(parents=True)
    write_tiny_llama(tmp_path / "repos/org/tiny/tiny-F16.gguf")
    write_tiny_llama(tmp_path / "mine.gguf", np.float32)
    with FakeHub(tmp_path / "repos") as hub:
        yield hub


@dataclass(frozen=True, slots=True)
class Scene:
    """Starts daemons that can be told to die, and gives them work."""

    start: Callable[..., LiveDaemon]
    settings: dict[str, str]
    directory: Path

    def command(self, work: str) -> list[str]:
        mine = str(self.directory / "mine.gguf")
        return {
            "pull": ["pull", MODEL],
            "create": ["create", "made", "--from", mine],
            "rm": ["rm", "made"],
            "gc": ["gc"],
        }[work]

    def run(self, name: str, work: str, at: int, whom: str) -> tuple[LiveDaemon, int]:
        """A store of its own; the daemon after its work, and how many steps that took."""
        home = self.directory / name
        home.mkdir()
        counted = home.with_suffix(".steps")
        order = {"home": str(home), "count": str(counted), "at": at, "whom": whom}
        steps = {"PYTHONPATH": str(STEPPING), "PYTHON_STEPS": json.dumps(order)}
        daemon = self.start(home=home, **self.settings, **steps)
        if work in ("rm", "gc"):
            assert daemon.qm(*self.command("create")).returncode == 0
        if work == "gc":
            layout = open_store(home).layout
            layout.claim(open_store(home).blobs.put(b"an orphan")).unlink()
        counted.touch()
        daemon.qm(*self.command(work))
        taken = counted.stat().st_size
        counted.unlink()
        return daemon, taken


@pytest.mark.slow
@pytest.mark.parametrize(("work", "whom"), COMBINATIONS)
def test_killed_before_a_step_nothing_breaks(
    start_daemon: Callable[..., LiveDaemon], hub: FakeHub, tmp_path: Path, work: str, whom: str
) -> None:
    """All that is visible is sound, and the same command succeeds then."""
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "QM_HOST": "off"}
    scene = Scene(start_daemon, settings, tmp_path)
    steps = places(scene, work, whom)
    reached = 0
    for step in steps:
        daemon, taken = scene.run(str(step), work, step, whom)
        reached += taken > step
        if taken > step and (whom == "daemon" or work in ("rm", "gc")):
            assert daemon.process.wait(60) == -signal.SIGKILL
            daemon = start_daemon(home=daemon.home, **settings)
        check(daemon, scene.command(work))
        daemon.stop()
    assert reached > len(steps) // 2  # threads take turns: the last steps may not be reached


def places(scene: Scene, work: str, whom: str) -> list[int]:
    """Before which steps to kill."""
    if not SOAK:
        return [STEP[work]]
    daemon, taken = scene.run("counted", work, -1, whom)
    assert daemon.stop() == 0
    return list(range(0, taken, -(-taken // PLACES)))


def check(daemon: LiveDaemon, command: list[str]) -> None:
    verified = verify_store(open_store(daemon.home))
    assert (verified.bad, verified.unreadable) == ((), ())
    again = daemon.qm(*command)
    assert again.returncode == 0 or "not found" in again.stderr, again.stderr
    assert daemon.qm("verify").returncode == 0
    store = open_store(daemon.home)
    collect(store, now_s=time.time() + 2 * CLAIM_AGE_S)
    models, unreadable = store.manifests.list()
    assert unreadable == []
    needed = {digest for entry in models for digest in entry.manifest.blobs()}
    assert {blob.digest for blob in store.blobs.list()} == needed
