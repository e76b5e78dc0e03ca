"""Pulls in processes of their own, on a store that they share with whoever kills them.

    python -m tests.crash.pulling     reads lines of JSON orders, does each in a fork, prints how it
                                      ended: `done`, `killed`, or the error's code

An order: {"root", "endpoint", "die_before": step or -1, "die_after_s": seconds or null,
           "errno": error in place of dying or 0, "repair": digest of a blob to mend instead,
           "create": GGUF file to make the model `made` of instead}
Every change of the disk is a step, whichever thread makes it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qm.store.errors import QmError
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.leases import hold
from qm.store.name import Name
from qm.store.pull.download import Limits
from qm.store.pull.fetch import RepoFetch
from qm.store.pull.hub import list_repo
from qm.store.pull.repair import repair
from qm.store.store import Store, open_store

from tests.crash import working

CALLS = (
    *("open", "write", "pwrite", "fsync", "fchmod", "ftruncate", "posix_fallocate", "link"),
    *("rename", "unlink", "mkdir", "rmdir", "utime"),
)
MAY_FAIL = frozenset({"write", "pwrite", "fsync", "posix_fallocate", "link", "rename"})
LIMITS = Limits(connections=3, stall_s=2.0, patience=6)
MODEL = Name.parse("hf.co/org/tiny")
REPO = "org/tiny"
FAILED = 3


def pull(store: Store, endpoint: str, limits: Limits = LIMITS) -> None:
    """The repository's only file becomes a model."""
    listing = list_repo(REPO, endpoint=endpoint)
    with hold(store.layout) as lease:
        fetch = RepoFetch(store, lease, listing, lambda _step: None, limits)
        (weights,) = fetch.fetch(listing.files).values()
        config = store.blobs.put(b"{}")
        lease.add(config)
        layer = Descriptor(MODEL_TYPE, weights.digest, weights.size_bytes)
        store.manifests.write(MODEL, Manifest(Descriptor(CONFIG_TYPE, config, 2), (layer,)))


def disturb(die_before: int, error: int) -> Callable[[], int]:
    """Counts the steps; number `die_before` is a SIGKILL, or fails with `error` if that is set."""
    count, lock = 0, threading.Lock()

    def disturbed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:  # Any: any signature
        def step(*args: Any, **options: Any) -> Any:
            nonlocal count
            if error and name not in MAY_FAIL:
                return call(*args, **options)
            with lock:
                number, count = count, count + 1
            if number == die_before:
                if error:
                    raise OSError(error, os.strerror(error))
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return step

    for name in CALLS:
        if hasattr(os, name):
            setattr(os, name, disturbed(name, getattr(os, name)))
    return lambda: count


def perform(order: dict[str, Any]) -> None:
    """In the fork. Prints the number of steps."""
    store = open_store(Path(order["root"]))
    if order.get("die_after_s") is not None:
        threading.Thread(target=_die, args=[order["die_after_s"]], daemon=True).start()
    steps = disturb(order.get("die_before", -1), order.get("errno", 0))
    try:
        if digest := order.get("repair"):
            repair(store, digest, lambda _done: None)
        elif file := order.get("create"):
            working.make(store.layout.root, Path(file))
        else:
            pull(store, order["endpoint"])
    except QmError as refusal:
        Path(order["root"]).with_name("error").write_text(f"{refusal.code} {refusal.message}")
        os._exit(FAILED)
    Path(order["root"]).with_name("steps").write_text(str(steps()))


def _die(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def in_fork(order: dict[str, Any]) -> str:
    child = os.fork()
    if child == 0:
        perform(order)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "killed" if os.WTERMSIG(status) == signal.SIGKILL else "crashed"
    if os.WEXITSTATUS(status) == FAILED:
        return Path(order["root"]).with_name("error").read_text().split()[0]
    return "done" if status == 0 else "crashed"


def main() -> None:
    for line in sys.stdin:
        print(in_fork(json.loads(line)), flush=True)  # noqa: T201  the answer to the test


if __name__ == "__main__":
    main()
