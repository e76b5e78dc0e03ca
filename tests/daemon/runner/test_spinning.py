"""How long threads wait awake, told from who else computes."""

from __future__ import annotations

import threading
import time

import pytest
from qm.daemon.runner.spinning import Crowding, Spinning

LIMIT_S = 60.0


def test_a_moment_tells_nothing() -> None:
    """One step that had to wait is no crowd yet."""
    assert not Crowding().observe(0.01, 0.01)


def test_others_on_our_cores_are_noticed_and_forgotten() -> None:
    """Much waiting means crowded, until for a while there is hardly any."""
    crowding = Crowding()
    assert crowding.observe(0.1, 0.02)
    assert crowding.observe(0.9, 0.0)  # too early to say
    assert not crowding.observe(0.2, 0.0)
    assert not crowding.observe(0.1, 0.005)


def test_some_waiting_keeps_what_is() -> None:
    """Between both thresholds nothing changes over, however often it is looked at."""
    calm, crowded = Crowding(), Crowding(crowded=True)
    assert not any(calm.observe(1.0, 0.05) for _ in range(5))
    assert all(crowded.observe(1.0, 0.05) for _ in range(5))


def test_threads_change_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is crowded an idle team is there; once it is calm its threads end."""
    clock_s, waited_s = 0.0, 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: clock_s)
    monkeypatch.setattr(Spinning, "_waited_s", lambda _self: waited_s)
    spinning = Spinning(2)
    before = threading.active_count()
    spinning.start()
    clock_s, waited_s = 1.0, 1.0
    spinning.look()
    assert spinning.curt
    assert threading.active_count() == before + 1
    spinning.start()
    clock_s = 3.0
    spinning.look()
    assert not spinning.curt
    deadline = time.monotonic() + LIMIT_S
    while threading.active_count() > before:
        assert time.monotonic() < deadline, "the idle team goes on"
        time.sleep(0.01)


def test_who_computes_alone_has_nobody_to_wait_for() -> None:
    """With a single thread nothing is ever changed over."""
    spinning = Spinning(1)
    spinning.start()
    spinning.look()
    assert not spinning.curt
