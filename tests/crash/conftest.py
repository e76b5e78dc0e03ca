"""What the campaigns against pulls share. `QM_SOAK=1` makes them long: see `make soak`."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from qm.store.claims import CLAIM_AGE_S
from qm.store.gc import collect
from qm.store.pull.partial import parse_journal
from qm.store.store import Store, open_store
from qm.store.verify import verify_store

from tests.fakehub import FakeHub

SOAK = bool(os.environ.get("QM_SOAK"))
SIZE = 9 << 20  # a few pieces on each of three connections
SEGMENT_BYTES = 16 << 20


@dataclass(slots=True)
class Puller:
    """Has pulls done by other processes. `chance` is seeded: what fails once fails again."""

    hub: FakeHub
    directory: Path
    process: subprocess.Popen[str]
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    _stores: int = 0

    def fresh(self) -> Store:
        self._stores += 1
        directory = self.directory / f"store{self._stores}"
        directory.mkdir()
        return open_store(directory / "home")

    def pull(self, store: Store, **order: Any) -> str:
        """How it ended: done, killed, crashed, or an error's code."""
        self.begin(store, **order)
        return self.end()

    def begin(self, store: Store, **order: Any) -> None:
        assert self.process.stdin is not None
        order |= {"root": str(store.layout.root), "endpoint": self.hub.url}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def end(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def steps(self, store: Store) -> int:
        """How many the last pull took."""
        return int(store.layout.root.with_name("steps").read_text())

    def check(self, store: Store, *, complete: bool) -> None:
        """The store's promises; and after the age of things nothing is left that nobody needs."""
        verified = verify_store(store)
        assert (verified.bad, verified.unreadable) == ((), ())
        models, _ = store.manifests.list()
        assert len(models) == 1 or not complete
        collect(store, now_s=time.time() + 2 * CLAIM_AGE_S)
        needed = {digest for entry in models for digest in entry.manifest.blobs()}
        assert {blob.digest for blob in store.blobs.list()} == needed
        for directory in (store.layout.leases, store.layout.claims, store.layout.trash):
            assert list(directory.iterdir()) == []
        if complete:
            assert list(store.layout.partial.iterdir()) == []

    def noted_bytes(self, store: Store) -> int:
        """What the journal of an unfinished pull says is there, which then is there."""
        for path in store.layout.partial.glob("pull-*/journal"):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            noted = parse_journal(path.read_bytes(), SIZE, boot)
            if noted is None:
                return 0
            data = path.with_name("data").read_bytes()
            source = (self.hub.repos.root / "org/tiny/model.gguf").read_bytes()
            assert all(data[a:b] == source[a:b] for a, b in noted.have)
            return noted.have.total
        return 0


@pytest.fixture(scope="module")
def tiny_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    root = tmp_path_factory.mktemp("repos")
    (root / "org/tiny").mkdir(parents=True)
    seed = hashlib.sha256(b"weights").digest()
    data = b"GGUF" + b"".join(hashlib.sha256(seed + bytes([n])).digest() * 4096 for n in range(72))
    (root / "org/tiny/model.gguf").write_bytes(data[:SIZE])
    with FakeHub(root) as hub:
        yield hub


@contextmanager
def start_puller(hub: FakeHub, directory: Path) -> Iterator[Puller]:
    """A process that forks for each pull, so that no interpreter has to start."""
    env = os.environ | {"HF_HOME": str(directory / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.pulling"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        cwd=Path(__file__).parents[2],
    ) as process:
        yield Puller(hub, directory, process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def puller(tiny_hub: FakeHub, tmp_path: Path) -> Iterator[Puller]:
    tiny_hub.faults.clear()
    tiny_hub.log.clear()
    with start_puller(tiny_hub, tmp_path) as puller:
        yield puller


@pytest.fixture
def other_puller(tiny_hub: FakeHub, tmp_path: Path) -> Iterator[Puller]:
    with start_puller(tiny_hub, tmp_path) as puller:
        yield puller


def until(condition: Callable[[], object], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
