"""Publications in processes of their own, which die before a given change of the disk.

    python publishing.py ROOT SCENARIO     performs it and prints the number of its steps
    python publishing.py                   reads lines of `ROOT SCENARIO STEP ERRNO`, dies before
                                           STEP, or has it fail where ERRNO is not 0

Every change of the disk is a step: the functions of `os` below are the only ones that the store
changes files with. Of those some may fail.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qm.store import adopt as adopt_module
from qm.store.adopt import Fallback, How
from qm.store.claims import CLAIM_AGE_S
from qm.store.errors import QmError
from qm.store.gc import collect
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.layout import Layout
from qm.store.leases import hold
from qm.store.name import Name
from qm.store.store import Store, open_store
from qm.store.writer import BlobWriter, open_writer

CALLS = (
    "open",
    "write",
    "pwrite",
    "fsync",
    "fchmod",
    "posix_fallocate",
    "link",
    "rename",
    "replace",
    "unlink",
    "mkdir",
    "rmdir",
    "utime",
)
MAY_FAIL = frozenset({"write", "pwrite", "fsync", "posix_fallocate", "link", "rename"})
TOLD = 3  # exit status: the failure became an error for the user
OLD, NEW = b"GGUF old weights", b"GGUF new weights"


def write_model(store: Store, weights: str, size_bytes: int) -> None:
    config = store.blobs.put(b"{}")
    layer = Descriptor(MODEL_TYPE, weights, size_bytes)
    manifest = Manifest(Descriptor(CONFIG_TYPE, config, 2), (layer,))
    store.manifests.write(Name.parse("m"), manifest)


def create(store: Store, _source: Path) -> None:
    """A new model takes the old one's name, as a pull or build does it."""
    with hold(store.layout) as lease:
        digest = store.blobs.put(NEW)
        lease.add(digest)
        write_model(store, digest, len(NEW))


def adopt(store: Store, source: Path) -> None:
    """The same from a file of the user."""
    adoption = store.blobs.adopt(source)
    write_model(store, adoption.digest, adoption.size_bytes)


def use_in_place(store: Store, source: Path) -> None:
    """The same, from a file on another disk, which stays where it is."""
    link = os.link

    def separated(one: Any, other: Any, **options: Any) -> None:  # Any: paths of any kind
        if Path(one) == source:
            raise OSError(errno.EXDEV, "another file system")
        link(one, other, **options)

    setattr(os, "link", separated)  # noqa: B010  mypy knows its type better than we need it
    setattr(adopt_module, "open_writer", _no_reflinks)  # noqa: B010  likewise
    adoption = store.blobs.adopt(source, fallback=Fallback.IN_PLACE)
    assert adoption.how is How.IN_PLACE
    write_model(store, adoption.digest, adoption.size_bytes)


@contextmanager
def _no_reflinks(layout: Layout, **options: Any) -> Iterator[BlobWriter]:  # Any: as open_writer
    with open_writer(layout, **options) as writer:
        setattr(writer, "clone", lambda *_: False)  # noqa: B010  likewise
        yield writer


def collect_garbage(store: Store, _source: Path) -> None:
    """An orphan and a claim that is over."""
    orphan = store.blobs.put(b"orphan")
    collect(store, now_s=store.layout.claim(orphan).stat().st_mtime + CLAIM_AGE_S + 1)


def remove(store: Store, _source: Path) -> None:
    """`qm rm`, then the name again, so that the end is the new model as everywhere."""
    removed = store.manifests.delete(Name.parse("m"))
    assert removed is not None
    collect(store, only=removed.manifest.blobs())
    create(store, _source)


SCENARIOS: dict[str, Callable[[Store, Path], None]] = {
    "create": create,
    "adopt": adopt,
    "in-place": use_in_place,
    "collect": collect_garbage,
    "remove": remove,
}


def count_steps(die_before: int, error: int = 0) -> Callable[[], int]:
    """Puts a counter in front of every call; SIGKILL instead of call number `die_before`, or the
    `error` of those that may fail.
    """
    count = 0

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:  # Any: a dozen kinds
        def step(*args: Any, **options: Any) -> Any:
            nonlocal count
            if error and name not in MAY_FAIL:
                return call(*args, **options)
            count += 1
            if count - 1 != die_before:
                return call(*args, **options)
            if error:
                raise OSError(error, os.strerror(error))
            os.kill(os.getpid(), signal.SIGKILL)

        return step

    for name in CALLS:
        if hasattr(os, name):
            setattr(os, name, counted(name, getattr(os, name)))
    return lambda: count


def run(root: Path, scenario: str, die_before: int, error: int = 0) -> int:
    """Performs the scenario in this process; the number of its steps."""
    store = open_store(root)
    steps = count_steps(die_before, error)
    try:
        SCENARIOS[scenario](store, root.parent / "source.gguf")
    except QmError:
        if not error:
            raise
        sys.exit(TOLD)
    return steps()


def run_forked(root: Path, scenario: str, die_before: int, error: int) -> str:
    """The same in a fork, which is quicker than a new interpreter: `killed`, `told` or `lived`."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(root, scenario, die_before, error)
            status = 0
        except SystemExit as told:
            status = int(str(told.code))
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return {signal.SIGKILL: "killed", 0: "lived", TOLD << 8: "told"}.get(status, "crashed")


def main() -> None:
    """Arguments run one scenario; without any, each line of stdin does, in a fork."""
    if len(sys.argv) > 1:
        print(run(Path(sys.argv[1]), sys.argv[2], -1))  # noqa: T201  the answer to the test
        return
    for line in sys.stdin:
        root, scenario, step, error = line.split()
        print(run_forked(Path(root), scenario, int(step), int(error)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
