"""What models hold, and when that is really back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import cast

import pytest
from qm.daemon import residents
from qm.daemon.facts import LayerFacts, ModelFacts
from qm.daemon.hardware import Machine, anonymous_bytes
from qm.daemon.loaded import Process
from qm.daemon.residents import Residents
from qm.daemon.runner.wire import Options

MIB = 1 << 20
FACTS = ModelFacts(2048, 64, 100, MIB, MIB, 0, (LayerFacts(MIB, 0, 64),))


def process(pid: int = 0) -> Process:
    runner = SimpleNamespace(pid=pid) if pid else None
    return cast("Process", SimpleNamespace(model=SimpleNamespace(name="a"), runner=runner))


async def test_memory_is_waited_for_until_it_is_measured_back() -> None:
    """An ended process is not enough: the system must count its memory as available."""
    told = [1000, 1000, 1500, 1990]
    one = Residents(lambda: Machine(4000 * MIB, told.pop(0) * MIB, 2), 0, 0)
    await one.wait_until_back(process(), 1000 * MIB, 1000 * MIB)
    assert told == []


async def test_nobody_waits_for_more_memory_than_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel counts some of it late, though the next model has more than enough."""
    monkeypatch.setattr(residents, "_STILL_S", 3600.0)
    told = [1000, 1200, 1500]
    one = Residents(lambda: Machine(4000 * MIB, told.pop(0) * MIB, 2), 0, 0)
    async with asyncio.timeout(60):
        await one.wait_until_back(process(), 1000 * MIB, 1000 * MIB, 1400 * MIB)
        assert told == []
        told = [1000]
        await one.wait_until_back(process(), 1000 * MIB, 1000 * MIB, 900 * MIB)


async def test_memory_that_others_took_is_not_waited_for_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next load finds out what there is."""
    monkeypatch.setattr(residents, "_BACK_LIMIT_S", 0.05)
    one = Residents(lambda: Machine(4000 * MIB, 1000 * MIB, 2), 0, 0)
    await one.wait_until_back(process(), 1000 * MIB, 1000 * MIB)


async def test_memory_that_has_stopped_coming_back_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others have taken the rest meanwhile, and the next load needn't wait for them."""
    monkeypatch.setattr(residents, "_BACK_LIMIT_S", 3600.0)
    monkeypatch.setattr(residents, "_STILL_S", 0.05)
    told = [1000, 1200, 1500]
    one = Residents(lambda: Machine(4000 * MIB, (told.pop(0) if told else 1500) * MIB, 2), 0, 0)
    async with asyncio.timeout(60):
        await one.wait_until_back(process(), 1000 * MIB, 1000 * MIB)
    assert told == []


def test_what_a_runner_has_for_itself_is_measured() -> None:
    """By the kernel's own account."""
    hold = "import sys; held = bytearray(b'x' * (64 << 20)); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        own = anonymous_bytes(child.pid)
        one = Residents(lambda: Machine(4000 * MIB, 1000 * MIB, 2), 0, 0)
        assert one.taken(process(child.pid)) == (1000 * MIB, own)
        child.kill()
    if sys.platform == "linux":
        assert own > 64 * MIB


@pytest.mark.parametrize(
    ("total", "each", "most"), [(0, 0, 1000), (500, 0, 500), (0, 300, 300), (500, 800, 500)]
)
def test_limits_in_total_and_for_each_model(total: int, each: int, most: int) -> None:
    """The smaller one holds for a placement; the total alone for all together."""
    one = Residents(lambda: Machine(4000 * MIB, 1000 * MIB, 2), total * MIB, each * MIB)
    asked = one.question(None, Options(), FACTS)
    assert asked.machine.available_bytes == most * MIB
    assert one.host().available_bytes == (total or 1000) * MIB
    setting = "QM_MODEL_MEMORY" if each == most else "QM_MEMORY_LIMIT"
    assert asked.machine.limited_by == (setting if most < 1000 else "")
