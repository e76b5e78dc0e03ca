"""kill -9 during a pull, before every step and at any time: the next one goes on and succeeds."""

from __future__ import annotations

import pytest

from tests.crash.conftest import SEGMENT_BYTES, SIZE, SOAK, Puller

RANDOM_KILLS = 600 if SOAK else 8


@pytest.mark.slow
def test_killed_before_any_step_the_next_pull_succeeds(puller: Puller) -> None:
    """Every change of the disk is a place to die, in a store of its own."""
    counted = puller.fresh()
    assert puller.pull(counted) == "done"
    steps = puller.steps(counted)
    assert steps > 30
    ends = set()
    for step in range(0, steps, 1 if SOAK else 7):
        store = puller.fresh()
        ends.add(puller.pull(store, die_before=step))
        puller.check(store, complete=False)
        puller.noted_bytes(store)
        assert puller.pull(store) == "done"
        puller.check(store, complete=True)
    assert ends <= {"killed", "done"}  # threads take turns: the last steps may not be reached
    assert "killed" in ends


@pytest.mark.slow
def test_killed_at_random_times_a_pull_goes_on(puller: Puller) -> None:
    """And what it must fetch again is at most one segment for each kill."""
    puller.hub.fault("slow", path="org/tiny/*", side="cdn", times=0, rate=12 << 20)
    kills = 0
    while kills < RANDOM_KILLS:
        store = puller.fresh()
        puller.hub.log.clear()
        here = killed_here = 0
        while (end := puller.pull(store, die_after_s=puller.chance.uniform(0.01, 0.3))) != "done":
            assert end == "killed"
            killed_here += 1
            noted = puller.noted_bytes(store)
            assert noted >= here or store.blobs.list(), "what was noted stays noted"
            puller.check(store, complete=False)  # collects a blob whose manifest was not written
            noted = puller.noted_bytes(store)
            here = noted
            if killed_here > 4:
                puller.hub.faults.clear()
        if not puller.hub.faults:
            puller.hub.fault("slow", path="org/tiny/*", side="cdn", times=0, rate=12 << 20)
        puller.check(store, complete=True)
        assert puller.hub.sent_bytes() <= SIZE + killed_here * SEGMENT_BYTES
        kills += killed_here
