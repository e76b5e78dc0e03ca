"""Power cuts during a store's whole life, from what strace saw of it: no promise is broken.

The other campaigns follow calls of Python; this one sees all processes, and native code too.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from qm.modelfiles.build.pull import pull
from qm.store.claims import CLAIM_AGE_S
from qm.store.gc import collect
from qm.store.layout import Layout
from qm.store.name import Name
from qm.store.pull.reference import parse_reference
from qm.store.store import open_store
from qm.store.verify import verify_store

from tests.crash.conftest import SOAK
from tests.crash.disk import Aftermath, Disk
from tests.crash.promises import Watcher
from tests.crash.replay import Replay
from tests.crash.strace import Call, read_calls, trace, why_not
from tests.crash.working import BUILT, MADE, PULLED
from tests.fakehub import FakeHub
from tests.modelfiles.build.tiny_llama import write_tiny_llama

REVIVED = 10_000 if SOAK else 2  # how many of the disks that cuts leave a pull is tried on
THERE_AFTER = {
    "pull": {PULLED},
    "create": {PULLED, MADE},
    "build": {PULLED, MADE, BUILT},
    "rm": {PULLED},
    "gc": {PULLED},
}


@dataclass(frozen=True, slots=True)
class Life:
    """What was traced from the disk `born` on, and the hub that was pulled from."""

    born: Disk
    calls: tuple[Call, ...]
    hub: FakeHub

    @property
    def layout(self) -> Layout:
        return Layout(self.born.root / "store")

    @property
    def source(self) -> bytes:
        return (self.hub.repos.root / "org/tiny/tiny-F16.gguf").read_bytes()

    def manifest(self, name: str) -> Path:
        return self.layout.manifest(Name.parse(name))

    def is_manifest(self, path: Path) -> bool:
        return path.is_relative_to(self.layout.manifests)

    def play(self, look: Callable[[Disk, Call], None], ignored: str = "") -> None:
        """Once more; `ignored` begins the name of a file or directory that no sync reaches."""
        disk = self.born.copy()
        replay = Replay(disk, lambda path: bool(ignored) and path.name.startswith(ignored))
        for call in self.calls:
            replay.play(call)
            look(disk, call)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    base, elsewhere = tmp_path_factory.mktemp("life"), tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "repos/org/tiny").mkdir(parents=True)
    write_tiny_llama(elsewhere / "repos/org/tiny/tiny-F16.gguf")
    write_tiny_llama(base / "mine.gguf", np.float32)
    born = Disk(base)
    born.sync_file(born.file(base / "mine.gguf"), b"")  # its owner wrote it just now
    with FakeHub(elsewhere / "repos") as hub:
        hub.fault("slow", path="org/tiny/*", side="cdn", times=0, rate=8 << 20)
        env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(elsewhere / "hf")}
        trace([sys.executable, "-m", "tests.crash.working", base], elsewhere / "trace", env)
        hub.faults.clear()
        yield Life(born, tuple(read_calls(elsewhere / "trace", base)), hub)


@pytest.mark.slow
def test_a_power_cut_at_any_moment_breaks_no_promise(life: Life) -> None:
    """After every call what is visible is whole; and what was reported done stays done."""
    watcher, done = Watcher(life.layout, life.source), dict[str, set[Path]]()

    def look(disk: Disk, _call: Call) -> None:
        watcher.look(disk)
        for mark in disk.entries(disk.root):
            work = mark.name.removeprefix("done-")
            if work in THERE_AFTER and work not in done:
                done[work] = set(filter(life.is_manifest, disk.pessimistic()))

    life.play(look)
    assert watcher.wrong == set()
    assert watcher.cuts > 500
    assert watcher.claimed_bytes > 0, "nothing was synced on the way"
    assert done == {work: set(map(life.manifest, names)) for work, names in THERE_AFTER.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ignored", "broken"),
    [
        ("data", {"promise 1", "promise 5"}),
        ("write-", {"promise 1"}),
        ("mine.gguf", {"promise 1"}),
        ("blobs", {"promise 2"}),
        ("replace-", {"promise 3"}),
    ],
)
def test_each_sync_is_needed(life: Life, ignored: str, broken: set[str]) -> None:
    """This test would notice if one of them went missing."""
    watcher = Watcher(life.layout, life.source)
    life.play(lambda disk, _call: watcher.look(disk), ignored)
    assert {text.partition(":")[0] for text in watcher.wrong} == broken


@pytest.mark.slow
def test_after_a_power_cut_the_next_pull_succeeds(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the disk that the cut left: all that is there is sound, and what is missing comes."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    disks = dict[frozenset[tuple[Path, int]], Aftermath]()

    def keep(disk: Disk, _call: Call) -> None:
        for files in disk.aftermaths():
            if life.layout.lock in files:
                disks.setdefault(frozenset((p, id(data)) for p, data in files.items()), files)

    life.play(keep)
    for number, files in enumerate(evenly(list(disks.values()), REVIVED)):
        revive(files, life.born.root, tmp_path / str(number))
        store = open_store(tmp_path / str(number) / "store")
        verified = verify_store(store)
        assert (verified.bad, verified.unreadable) == ((), ())
        pull(store, parse_reference(PULLED), lambda _step: None, endpoint=life.hub.url)
        collect(store, now_s=time.time() + 2 * CLAIM_AGE_S)
        assert verify_store(store).bad == ()
        assert store.manifests.read(Name.parse(PULLED))
        shutil.rmtree(tmp_path / str(number))


def evenly(disks: list[Aftermath], most: int) -> list[Aftermath]:
    assert len(disks) > 50
    return disks[:: -(-len(disks) // most)]


def revive(files: Aftermath, root: Path, target: Path) -> None:
    """Makes the files what they were; second names of one file become files of their own."""
    for path, data in files.items():
        where = target / path.relative_to(root)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)
