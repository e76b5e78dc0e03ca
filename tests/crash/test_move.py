"""kill -9 before every change of the disk that a move makes: one store, whole, and the next move
goes on.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.location import find_root
from qm.store.move import finish
from qm.store.name import Name
from qm.store.pull.origin import Origin, read_origin, write_origin
from qm.store.store import Store, open_store
from qm.store.verify import verify_store

from tests.crash.conftest import SOAK

PLACES = 10_000 if SOAK else 5  # of all steps, evenly
NAMES = ("first", "hf.co/org/second:Q4")


def add(store: Store, name: str) -> str:
    data = b"GGUF " + name.encode()
    config, weights = store.blobs.put(b"{}"), store.blobs.put(data)
    layer = Descriptor(MODEL_TYPE, weights, len(data))
    store.manifests.write(Name.parse(name), Manifest(Descriptor(CONFIG_TYPE, config, 2), (layer,)))
    return weights


def fresh(directory: Path) -> Path:
    """The home of a store with two models, and with what else there can be."""
    directory.mkdir()
    home = directory / "home"
    store = open_store(home)
    digests = [add(store, name) for name in NAMES]
    write_origin(store.layout, digests[0], Origin(10, {"repo": "org/first"}))
    user_file = directory / "mine.gguf"
    user_file.write_bytes(b"GGUF of a user")
    store.blobs.adopt(user_file)
    partial = store.layout.partial / f"pull-{'0' * 64}"
    partial.mkdir(mode=0o700)
    (partial / "data").write_bytes(b"half of a file")
    (store.layout.kv / "some.kv").write_bytes(b"a conversation")
    (home / "keys.json").write_text("{}")
    return home


@pytest.fixture
def mover() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.moving"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ask(mover: subprocess.Popen[str], home: Path, target: Path, *, far: bool, step: int) -> str:
    assert mover.stdin is not None
    assert mover.stdout is not None
    order = {"home": str(home), "target": str(target), "far": far, "step": step}
    mover.stdin.write(json.dumps(order) + "\n")
    mover.stdin.flush()
    return mover.stdout.readline().strip()


def check(home: Path) -> Path:
    """Everything is where the home says, and nowhere else is a store that could be taken for it."""
    root = find_root(home)
    store = open_store(home)
    assert store.layout.root == root
    models, unreadable = store.manifests.list()
    assert [str(model.name) for model in models] == ["hf.co/org/second:Q4", "first:latest"]
    verified = verify_store(store)
    assert (verified.bad, unreadable, verified.checked) == ((), [], 4)
    assert read_origin(store.layout, models[1].manifest.layers[0].digest) is not None
    assert (store.layout.partial / f"pull-{'0' * 64}/data").read_bytes() == b"half of a file"
    assert (store.layout.kv / "some.kv").exists()
    return root


@pytest.mark.slow
@pytest.mark.parametrize("far", [False, True], ids=["linked", "copied"])
@pytest.mark.parametrize("back", [False, True], ids=["away", "back"])
def test_killed_at_any_step_a_move_goes_on(
    mover: subprocess.Popen[str], tmp_path: Path, far: bool, back: bool
) -> None:
    """Before the switch the old place is the store, after it the new one; the next move is whole.

    `back`: to the home itself, which had been left before.
    """

    def prepared(name: str) -> tuple[Path, Path]:
        home = fresh(tmp_path / name)
        away = home.parent / "new"
        if back:
            assert ask(mover, home, away, far=False, step=-1).isdecimal()
            return home, home
        return home, away

    steps = int(ask(mover, *prepared("counted"), far=far, step=-1))
    assert steps > 40
    places = set()
    for step in range(0, steps, -(-steps // PLACES)):
        home, target = prepared(f"step{step}")
        assert ask(mover, home, target, far=far, step=step) == "killed"
        finish(home)
        root = check(home)
        places.add(root == target)
        if root != target:
            assert ask(mover, home, target, far=far, step=-1).isdecimal()
        assert check(home) == target
        old = home.parent / "new" if back else home
        left = {path.name for path in old.iterdir()}
        assert left <= {"moved-to", "keys.json"}
        assert {path.name for path in target.iterdir()}.isdisjoint({"moving-from", "moving-to"})
        shutil.rmtree(home.parent)
    assert False in places
    assert True in places or not SOAK


def test_links_share_the_bytes(mover: subprocess.Popen[str], tmp_path: Path) -> None:
    """On one file system nothing is copied, and watched files stay watched."""
    home = fresh(tmp_path / "one")
    inodes = {path.name: path.stat().st_ino for path in (home / "blobs").iterdir()}
    assert ask(mover, home, tmp_path / "new", far=False, step=-1).isdecimal()
    blobs = open_store(home).layout.blobs
    assert {path.name: path.stat().st_ino for path in blobs.iterdir()} == inodes
    assert "adopted" in {str(blob.kind) for blob in open_store(home).blobs.list()}
