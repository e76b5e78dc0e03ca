"""A store's whole life, to be traced: pull, create, remove, collect, as the daemon's jobs do them.

    python -m tests.crash.working BASE     the store is BASE/store, the user's file BASE/mine.gguf

What was reported done is marked by a directory BASE/done-….
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from qm.daemon.job_kinds import KINDS, JsonObject
from qm.store.claims import CLAIM_AGE_S
from qm.store.gc import collect
from qm.store.name import Name
from qm.store.pull import download, fetching, front
from qm.store.store import open_store

PULLED, MADE, BUILT = "hf.co/org/tiny", "made", "built"


def pull(home: Path) -> None:
    """In small pieces, so that a small file has many, and much is synced on the way."""
    small = {
        fetching: ("PIECE_BYTES", "BUFFER_BYTES"),
        front: ("STEP_BYTES",),
        download: ("SYNC_BYTES",),
    }
    for module, names in small.items():
        for name in names:
            setattr(module, name, 256 << 10)
    KINDS["pull"](home, {"model": PULLED}, _ignore)


def create(home: Path) -> None:
    """Of the user's own file, which is shared by link."""
    make(home, home.with_name("mine.gguf"))


def make(home: Path, file: Path) -> None:
    """The model `made` of a GGUF file."""
    adopted = KINDS["adopt"](home, {"path": str(file)}, _ignore)
    _build(home, MADE, {"files": {file.name: adopted["digest"]}})


def build(home: Path) -> None:
    """Of the model that was pulled, by steps that write files of their own."""
    _build(home, BUILT, {"from": PULLED, "quantize": "q8_0"})


def remove(home: Path) -> None:
    """`qm rm` of all but what was pulled."""
    store = open_store(home)
    for name in (MADE, BUILT):
        removed = store.manifests.delete(Name.parse(name))
        assert removed is not None
        collect(store, only=removed.manifest.blobs())


def collect_all(home: Path) -> None:
    """`qm gc` when every claim is over, with something to find."""
    store = open_store(home)
    store.blobs.put(b"an orphan")
    collect(store, now_s=time.time() + 2 * CLAIM_AGE_S)


WORK: dict[str, Callable[[Path], None]] = {
    "pull": pull,
    "create": create,
    "build": build,
    "rm": remove,
    "gc": collect_all,
}


def _build(home: Path, name: str, request: JsonObject) -> None:
    KINDS["create"](home, {"name": name, "request": {"model": name, **request}}, _ignore)


def _ignore(_step: JsonObject) -> None:
    pass


def main() -> None:
    base = Path(sys.argv[1])
    for name, work in WORK.items():
        work(base / "store")
        (base / f"done-{name}").mkdir()


if __name__ == "__main__":
    main()
