"""Which failed loads are worth another try, and how much smaller that is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from qm.daemon.facts import LayerFacts, ModelFacts
from qm.daemon.fit import fit
from qm.daemon.hardware import Machine
from qm.daemon.placing import Fit, Room, Wanted
from qm.daemon.questions import Question
from qm.daemon.retry import smaller, told, worth_retrying
from qm.daemon.runner.failures import LoadFailed, RunnerCrashed
from qm.daemon.runner.wire import Failed, Options
from qm.modelfiles.model import Model

MIB, GIB = 1 << 20, 1 << 30
FACTS = ModelFacts(8192, 512, 1000, 10 * MIB, 10 * MIB, 0, (LayerFacts(100 * MIB, 0, 512),) * 10)
WANTED = Wanted(4096, 1)
MODEL = cast("Model", SimpleNamespace(name="a"))


def question(wishes: Options | None = None) -> Question:
    return Question(MODEL, FACTS, wishes or Options(), Machine(8 * GIB, 4 * GIB, 2))


def placed(asked: Question, rooms: tuple[Room, ...] = ()) -> Fit:
    rooms = tuple(
        replace(room, room_bytes=room.room_bytes - asked.spared.get(room.name, 0)) for room in rooms
    )
    return fit(asked.facts, asked.machine, asked.wishes, WANTED, rooms=rooms)


def failed(code: str) -> LoadFailed:
    return LoadFailed(Failed(1, code, "unable to allocate\nand more"))


@pytest.mark.parametrize(
    ("code", "again"),
    [("out_of_memory", True), ("device_lost", True), ("load_failed", False)],
)
def test_only_memory_and_lost_devices_are_worth_it(code: str, again: bool) -> None:
    """A damaged file stays damaged."""
    assert worth_retrying(failed(code), placed(question())) is again


def test_a_crash_is_worth_it_only_where_a_device_may_have_caused_it() -> None:
    """llama.cpp aborts when a device is gone or full; on the CPU alone a crash is a crash."""
    crash = RunnerCrashed("died")
    assert not worth_retrying(crash, placed(question()))
    assert worth_retrying(crash, placed(question(), (Room("GPU0", GIB, GIB),)))


def test_each_retry_takes_less_of_the_device() -> None:
    """Even where there was room to spare by our count."""
    rooms = (Room("GPU0", 2 * GIB, 2 * GIB),)
    asked = question()
    before = placed(asked, rooms)
    for _ in range(3):
        asked = smaller(asked, before)
        after = placed(asked, rooms)
        assert after.device_bytes < before.device_bytes
        assert after.placement.n_gpu_layers < before.placement.n_gpu_layers
        before = after


def test_on_the_cpu_less_memory_is_counted_on() -> None:
    """So that a context that nobody asked for shrinks."""
    asked = question()
    before = placed(asked)
    assert smaller(asked, before).machine.available_bytes < before.needed_bytes


def test_what_was_changed_is_told() -> None:
    """In one line, with the reason."""
    rooms = (Room("GPU0", 2 * GIB, 2 * GIB),)
    before = placed(question(), rooms)
    after = placed(smaller(question(), before), rooms)
    line = told(before, failed("out_of_memory"), after)
    assert "11 layers on GPUs" in line
    assert "unable to allocate" in line
    assert "and more" not in line
    assert f"{after.placement.n_gpu_layers} layers" in line
