"""kill -9 before every single change of the disk; the store's promises hold each time."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from qm.store.claims import CLAIM_AGE_S
from qm.store.gc import collect
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.name import Name
from qm.store.store import Store, open_store
from qm.store.verify import verify_store

PROGRAM = Path(__file__).with_name("publishing.py")
OLD, NEW = b"GGUF old weights", b"GGUF new weights"
MODEL = Name.parse("m")
FAILING = range(39, -1, -1 if os.environ.get("QM_SOAK") else -4)  # more than there are
RANDOM_RUNS = 300 if os.environ.get("QM_SOAK") else 20


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def count_steps(root: Path, scenario: str) -> int:
    """Performs the scenario to its end."""
    child = start(root, scenario)
    steps = int(child.communicate(timeout=60)[0])
    assert child.returncode == 0
    return steps


def fresh(directory: Path) -> Store:
    """A store with the old model, and a file to adopt beside it."""
    directory.mkdir()
    (directory / "source.gguf").write_bytes(NEW)
    store = open_store(directory / "store")
    config = Descriptor(CONFIG_TYPE, store.blobs.put(b"{}"), 2)
    layer = Descriptor(MODEL_TYPE, store.blobs.put(OLD), len(OLD))
    store.manifests.write(MODEL, Manifest(config, (layer,)))
    return store


def weights(store: Store) -> bytes | None:
    """The model's bytes, None when there is no model."""
    stored, unreadable = store.manifests.list()
    assert unreadable == []
    if not stored:
        return None
    return store.blobs.path(stored[0].manifest.layers[0].digest).read_bytes()


def check_promises(store: Store, *, may_be_gone: bool = False) -> None:
    """Promises 1 to 4, and that nothing is left behind for ever."""
    verified = verify_store(store)
    assert (verified.bad, verified.unreadable) == ((), ())
    assert weights(store) in ((OLD, NEW, None) if may_be_gone else (OLD, NEW))
    collect(store, now_s=time.time() + 2 * CLAIM_AGE_S)
    assert verify_store(store).bad == ()
    needed = {d for entry in store.manifests.list()[0] for d in entry.manifest.blobs()}
    assert {blob.digest for blob in store.blobs.list()} == needed
    layout = store.layout
    for directory in (layout.leases, layout.claims, layout.trash, layout.partial):
        assert list(directory.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["create", "adopt", "in-place", "collect", "remove"])
def test_killed_before_any_step_nothing_breaks(tmp_path: Path, scenario: str) -> None:
    """Each step is a place to die; afterwards the promises hold and the same again succeeds."""
    steps = count_steps(fresh(tmp_path / "counted").layout.root, scenario)
    assert steps > 10
    stores = [fresh(tmp_path / f"step{step}") for step in range(steps)]
    lines = [f"{store.layout.root} {scenario} {step} 0\n" for step, store in enumerate(stores)]
    output, _ = start().communicate("".join(lines), timeout=120)
    assert output.split() == ["killed"] * steps
    for store in stores:
        check_promises(store, may_be_gone=scenario == "remove")
    assert count_steps(stores[-1].layout.root, "create")
    assert weights(stores[-1]) == NEW
    check_promises(stores[-1])


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["create", "adopt", "in-place", "collect", "remove"])
def test_a_failing_call_is_told_and_breaks_nothing(tmp_path: Path, scenario: str) -> None:
    """Whichever write, fsync, link or rename it is; the same again succeeds."""
    errors = (errno.ENOSPC, errno.EIO)
    stores = {
        (step, error): fresh(tmp_path / f"{step}-{error}") for step in FAILING for error in errors
    }
    lines = [
        f"{store.layout.root} {scenario} {step} {error}\n"
        for (step, error), store in stores.items()
    ]
    output, _ = start().communicate("".join(lines), timeout=120)
    ends = dict(zip(stores, output.split(), strict=True))
    assert [place for place, end in ends.items() if end == "crashed"] == []
    assert "told" in ends.values()
    assert ends[39, errno.EIO] == "lived", "there are more steps than were tried"
    for (step, error), store in stores.items():
        if ends[step, error] == "told":
            check_promises(store, may_be_gone=scenario == "remove")


@pytest.mark.slow
def test_killed_at_random_times_nothing_breaks(tmp_path: Path) -> None:
    """Whole processes, one after the other on one store, dying whenever the clock says."""
    store = fresh(tmp_path / "random")
    chance = random.Random(4)
    killed = 0
    for _ in range(RANDOM_RUNS):
        removable = ["remove"] if weights(store) is not None else []
        scenario = chance.choice(["create", "adopt", "collect", *removable])
        child = start(store.layout.root, scenario)
        try:
            child.wait(timeout=chance.uniform(0.05, 0.25))
        except subprocess.TimeoutExpired:
            child.kill()
            killed += 1
        child.communicate(timeout=60)
        assert child.returncode in (0, -9)
        check_promises(store, may_be_gone=True)
    assert killed > 0


def test_the_program_has_the_bytes_that_this_test_expects() -> None:
    """The two files agree on what the models are made of."""
    source = PROGRAM.read_text()
    assert f"OLD, NEW = {OLD!r}, {NEW!r}".replace("'", '"') in source
    assert hashlib.sha256(OLD).digest() != hashlib.sha256(NEW).digest()
