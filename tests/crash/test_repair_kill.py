"""kill -9 and failing disks during `verify --repair`: the next repair mends what is left."""

from __future__ import annotations

import errno

import pytest
from qm.store.store import Store

from tests.crash.conftest import SIZE, SOAK, Puller

PLACES = 1000 if SOAK else 4  # of all steps, evenly


def damaged(puller: Puller) -> tuple[Store, str]:
    """A pulled model with a flipped bit."""
    store = puller.fresh()
    assert puller.pull(store) == "done"
    (model,), _ = store.manifests.list()
    digest = model.manifest.layers[0].digest
    path = store.layout.blob(digest)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(SIZE // 2)
        byte = file.read(1)
        file.seek(SIZE // 2)
        file.write(bytes([byte[0] ^ 1]))
    return store, digest


@pytest.mark.slow
@pytest.mark.parametrize("error", [0, errno.ENOSPC, errno.EIO], ids=["kill", "ENOSPC", "EIO"])
def test_a_repair_that_was_cut_short_goes_on(puller: Puller, error: int) -> None:
    """Wherever that was; no wrong byte is ever taken for the right one."""
    store, digest = damaged(puller)
    counting = {"errno": errno.EIO, "die_before": 10**6} if error else {}
    assert puller.pull(store, repair=digest, **counting) == "done"
    steps, ends = puller.steps(store), set()
    assert steps > 10
    for step in range(0, steps, -(-steps // PLACES)):
        store, digest = damaged(puller)
        ends.add(puller.pull(store, repair=digest, die_before=step, errno=error))
        assert puller.pull(store, repair=digest) == "done"
        puller.check(store, complete=True)
    assert ends - {"done"} <= {"killed", "store_full", "store_failed"}
    assert ends != {"done"}
