"""How long threads wait awake, told from who else computes."""

from __future__ import annotations

import threading
import time

import pytest
from qm.daemon.runner.spinning import FIRST_SPELL_S, Crowding, Spinning

LIMIT_S = 60.0


def test_a_moment_tells_nothing() -> None:
    """One step that had to wait is no crowd yet."""
    assert not Crowding().observe(0.01, 0.01)


def test_others_on_our_cores_are_noticed_and_forgotten() -> None:
    """Much waiting means crowded, for a short spell of computing however long that waits."""
    crowding = Crowding()
    assert crowding.observe(0.1, 0.03)
    assert crowding.observe(0.9 * FIRST_SPELL_S, 0.1)
    assert not crowding.observe(0.2 * FIRST_SPELL_S, 0.1)
    assert not crowding.observe(0.1, 0.005)


def test_a_crowd_that_stays_is_tried_less_and_less() -> None:
    """Each trial that fails doubles the spell, to a limit; after a calm time it is short again."""
    crowding, spells = Crowding(), []
    for _ in range(7):
        assert crowding.observe(0.1, 0.1)
        spells.append(crowding.window_s)
        assert not crowding.observe(crowding.window_s, 0.0)
    assert spells == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert not crowding.observe(2.0, 0.0)
    assert crowding.observe(0.1, 0.1)
    assert crowding.window_s == FIRST_SPELL_S


def test_a_little_waiting_is_no_crowd() -> None:
    """Whoever takes what we send computes too."""
    crowding = Crowding()
    assert not any(crowding.observe(1.0, 0.05) for _ in range(5))


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


def test_threads_sleep_while_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the end of one step to the next; how long that took tells nothing of a crowd."""
    clock_s, waited_s = 0.0, 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: clock_s)
    monkeypatch.setattr(Spinning, "_waited_s", lambda _self: waited_s)
    spinning = Spinning(2)
    spinning.start()
    clock_s = 0.03
    spinning.look()
    spinning.hush()
    assert spinning.curt
    clock_s, waited_s = 2.0, 1.9
    spinning.start()
    assert not spinning.curt
    clock_s = 2.1
    spinning.look()
    assert not spinning.curt


def test_who_computes_alone_has_nobody_to_wait_for() -> None:
    """With a single thread nothing is ever changed over."""
    spinning = Spinning(1)
    spinning.start()
    spinning.look()
    assert not spinning.curt
