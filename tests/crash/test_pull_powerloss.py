"""A power cut at any moment of a pull: what is visible is whole, and a partial file claims no bytes
that the disk does not have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from qm.store.name import Name
from qm.store.pull import download, fetching, front
from qm.store.store import Store, open_store

from tests.crash.disk import Disk
from tests.crash.promises import Watcher
from tests.crash.pulling import pull
from tests.crash.recording import recorded
from tests.fakehub import FakeHub

SIZE = 300_000
MODEL = Name.parse("hf.co/org/tiny")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Small pieces, so that a small file has many of them, and much is synced on the way."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(fetching, "PIECE_BYTES", 32 << 10)
    monkeypatch.setattr(fetching, "_FIRST_READ_BYTES", 16 << 10)
    monkeypatch.setattr(fetching, "BUFFER_BYTES", 16 << 10)
    monkeypatch.setattr(front, "STEP_BYTES", 64 << 10)
    monkeypatch.setattr(download, "SYNC_BYTES", 64 << 10)
    (tmp_path / "repos/org/tiny").mkdir(parents=True)
    (tmp_path / "repos/org/tiny/model.gguf").write_bytes(b"GGUF" + os.urandom(SIZE - 4))
    with FakeHub(tmp_path / "repos") as hub:
        hub.fault("slow", path="org/tiny/*", side="cdn", times=0, rate=400_000)
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def watched(
    hub: FakeHub, store: Store, ignoring: Callable[[Path], bool] | None = None
) -> tuple[Watcher, Disk]:
    watcher = Watcher(store.layout, (hub.repos.root / "org/tiny/model.gguf").read_bytes())
    with recorded(
        store.layout.root, ignoring=ignoring, at_each_cut=lambda seen: watcher.look(seen.disk)
    ) as recording:
        pull(store, hub.url)
    return watcher, recording.disk


@pytest.mark.slow
def test_a_power_cut_at_any_moment_of_a_pull_breaks_no_promise(hub: FakeHub, store: Store) -> None:
    """Promises 1 to 3 and 5, and what was reported done stays done."""
    watcher, disk = watched(hub, store)
    assert watcher.wrong == set()
    assert watcher.cuts > 100
    assert watcher.claimed_bytes > 0, "nothing was synced on the way"
    path = store.layout.manifest(MODEL)
    assert disk.pessimistic()[path] == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ignored", "broken"), [("data", {"promise 1", "promise 5"}), ("blobs", {"promise 2"})]
)
def test_each_fsync_of_a_pull_is_needed(
    hub: FakeHub, store: Store, ignored: str, broken: set[str]
) -> None:
    """This test would notice if one of them went missing."""
    watcher, _ = watched(hub, store, lambda path: path.name == ignored)
    assert {text.partition(":")[0] for text in watcher.wrong} == broken
