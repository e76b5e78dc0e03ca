"""Garbage collection all the time, against pulls, builds, removals and re-references."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from qm.store.gc import GcRefused, collect
from qm.store.manifests import ModelNotFound
from qm.store.name import Name
from qm.store.store import Store

from tests.crash import working
from tests.crash.conftest import SOAK, Puller
from tests.crash.pulling import MODEL
from tests.modelfiles.build.tiny_llama import write_tiny_llama

SOAK_S = float(os.environ.get("QM_SOAK_S") or (600 if SOAK else 0))
ROUNDS = 3  # at least, in which all was done
MADE = Name.parse(working.MADE)
EVERY_S = 0.1


def collect_often(store: Store, over: threading.Event, failures: list[str]) -> None:
    """The sweep of a store whose claims are all too old: only leases guard what is under way."""
    while not over.wait(EVERY_S):
        try:
            collect(store)
        except GcRefused as refused:
            failures.append(str(refused))


@pytest.mark.slow
def test_collecting_all_the_time_harms_nobody(
    puller: Puller, other_puller: Puller, tmp_path: Path
) -> None:
    """Models are pulled, made and removed, at the same time; some of that is killed. What is left
    behind is taken up again before it is collected.
    """
    mine = str(tmp_path / "mine.gguf")
    write_tiny_llama(Path(mine))
    store, over, failures = puller.fresh(), threading.Event(), list[str]()
    collector = threading.Thread(target=collect_often, args=[store, over, failures])
    collector.start()
    deadline, rounds = time.monotonic() + SOAK_S, 0
    try:
        while rounds < ROUNDS or time.monotonic() < deadline:
            chance = puller.chance
            puller.begin(store, die_after_s=some_time(chance))
            other_puller.begin(
                store, create=str(tmp_path / "mine.gguf"), die_after_s=some_time(chance)
            )
            ends = {MODEL: puller.end(), MADE: other_puller.end()}
            assert set(ends.values()) <= {"done", "killed"}
            rounds += set(ends.values()) == {"done"}
            for name, end in ends.items():
                if end == "done" and chance.random() < 0.7:
                    store.manifests.delete(name)  # a model that was reported done is there
    finally:
        over.set()
        collector.join()
    assert failures == []
    assert puller.pull(store) == "done"
    with suppress(ModelNotFound):
        store.manifests.delete(MADE)
    puller.check(store, complete=True)


def some_time(chance: random.Random) -> float | None:
    """Until somebody is killed, if somebody is."""
    return chance.uniform(0.02, 0.3) if chance.random() < 0.4 else None
