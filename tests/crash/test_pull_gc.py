"""Garbage collection all the time, against pulls, removals and re-references."""

from __future__ import annotations

import os
import threading
import time

import pytest
from qm.store.gc import GcRefused, collect
from qm.store.manifests import ModelNotFound
from qm.store.store import Store

from tests.crash.conftest import SOAK, Puller
from tests.crash.pulling import MODEL

SOAK_S = float(os.environ.get("QM_SOAK_S") or (600 if SOAK else 0))
PULLS = 5  # at least
EVERY_S = 0.1


def collect_often(store: Store, over: threading.Event, failures: list[str]) -> None:
    """The sweep of a store whose claims are all too old: only leases guard what is under way."""
    while not over.wait(EVERY_S):
        try:
            collect(store)
        except GcRefused as refused:
            failures.append(str(refused))


@pytest.mark.slow
def test_collecting_all_the_time_harms_no_pull(puller: Puller) -> None:
    """Models are pulled and removed; what is left behind is pulled again before it is collected."""
    store, over, failures = puller.fresh(), threading.Event(), list[str]()
    collector = threading.Thread(target=collect_often, args=[store, over, failures])
    collector.start()
    deadline, pulls = time.monotonic() + SOAK_S, 0
    try:
        while pulls < PULLS or time.monotonic() < deadline:
            dies = puller.chance.uniform(0.02, 0.2) if puller.chance.random() < 0.4 else None
            end = puller.pull(store, die_after_s=dies)
            assert end in ("done", "killed")
            pulls += end == "done"
            if end == "done" and puller.chance.random() < 0.7:
                try:
                    store.manifests.delete(MODEL)
                except ModelNotFound:
                    pytest.fail("a model that was pulled is there")
    finally:
        over.set()
        collector.join()
    assert failures == []
    assert puller.pull(store) == "done"
    puller.check(store, complete=True)
