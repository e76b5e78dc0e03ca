"""Placement beside models that are loaded: nobody is unloaded without need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from qm.daemon.devices import BufferBytes, Device, Devices
from qm.daemon.hardware import Machine
from qm.daemon.placing import RUNNER_BYTES, DoesNotFit
from qm.daemon.planner import Planner
from qm.daemon.questions import Question, Staying
from qm.daemon.runner.wire import Options, Placement
from qm.daemon.settings import load_settings

from .test_fit import EIGHT, GIB, MIB

WORKERS = "10.0.0.1:50052", "10.0.0.2:50052"


class FakeProbe:
    """Knows these devices; of sizes it can tell nothing."""

    def __init__(self, *devices: Device) -> None:
        self._devices = Devices(devices)

    async def devices(self, endpoints: tuple[str, ...]) -> Devices:
        return self._devices

    async def measure(
        self,
        weights: tuple[str, ...],
        placement: Placement,
        *,
        embedding: bool,
        projector: str | None = None,
        draft: str | None = None,
    ) -> tuple[BufferBytes, ...]:
        return ()

    async def release(self) -> None:
        pass

    async def close(self) -> None:
        pass


def card(name: str, free: int, total: int = 8 * GIB) -> Device:
    return Device(name, "a card", "gpu", "CUDA", free, total, name)


def worker(index: int) -> Device:
    endpoint = WORKERS[index]
    return Device(
        f"RPC{index}", endpoint, "gpu", "RPC", 8 * GIB, 8 * GIB, f"RPC0[{endpoint}]", endpoint
    )


def planner(tmp_path: Path, *devices: Device) -> Planner:
    environ = {"QM_HOME": str(tmp_path), "QM_GPU_RESERVE": "0", "QM_RPC": ",".join(WORKERS)}
    (tmp_path / "facts").mkdir()
    return Planner(load_settings(environ), FakeProbe(*devices))


def question(held: dict[str, int], *, pinned: bool = False) -> Question:
    """For an 8B model that takes about 5 GiB, beside models that hold this of devices."""
    others = Staying(GIB // 4, held)
    return Question(
        None,
        EIGHT,
        Options(num_ctx=4096),
        Machine(64 * GIB, 32 * GIB, 8),
        held,
        staying=others if pinned else Staying(),
        others=others,
    )


async def test_a_device_with_room_is_taken_before_anybody_is_unloaded(tmp_path: Path) -> None:
    """Though the first would do, were it empty. Rooms are told as of empty devices."""
    one = planner(tmp_path, card("CUDA0", 4 * GIB), card("CUDA1", 8 * GIB))
    found = await one.plan(question({"CUDA0": 4 * GIB}))
    assert found.placement.devices == ("CUDA1",)
    assert [use.room_bytes for use in found.uses[1:]] == [8 * GIB]


async def test_a_better_place_is_worth_unloading_for(tmp_path: Path) -> None:
    """All layers on the only GPU, which takes the memory of the one that is there."""
    one = planner(tmp_path, card("CUDA0", 4 * GIB))
    found = await one.plan(question({"CUDA0": 4 * GIB}))
    assert found.placement.n_gpu_layers == 33


async def test_who_is_pinned_keeps_its_memory(tmp_path: Path) -> None:
    """The next model takes what is left of the GPU, and is not turned away."""
    one = planner(tmp_path, card("CUDA0", 4 * GIB))
    found = await one.plan(question({"CUDA0": 4 * GIB}, pinned=True))
    assert 0 < found.placement.n_gpu_layers < 33
    assert found.uses[1].total_bytes <= 4 * GIB
    assert found.uses[1].room_bytes == 8 * GIB


@pytest.mark.parametrize(("kind", "backend"), [("gpu", "MTL"), ("igpu", "Vulkan")])
async def test_what_a_gpu_takes_of_the_host_is_asked_of_the_host(
    tmp_path: Path, kind: str, backend: str
) -> None:
    """Apple's, and graphics in the processor: their memory is none beside the host's."""
    device = Device("GPU0", "a part", kind, backend, 11 * GIB, 11 * GIB, "GPU0")
    one = planner(tmp_path, device)
    found = await one.plan(question({}))
    assert found.placement.devices == ("GPU0",)
    assert found.needed_bytes == found.predicted_bytes + RUNNER_BYTES
    scarce = replace(question({}), machine=Machine(8 * GIB, 5 * GIB, 8))
    with pytest.raises(DoesNotFit):
        await one.plan(scarce)


@pytest.mark.parametrize(("held", "expected"), [({}, "RPC0"), ({"RPC0": GIB}, "RPC1")])
async def test_a_worker_that_serves_another_model_is_left_alone(
    tmp_path: Path, held: dict[str, int], expected: str
) -> None:
    """It has time for one at once; the runner then connects to the other worker alone."""
    found = await planner(tmp_path, worker(0), worker(1)).plan(question(held))
    assert found.placement.devices == (expected,)
    assert found.placement.rpc_servers == (WORKERS[int(expected[3:])],)


async def test_where_nothing_fits_beside_the_pinned_the_empty_machine_is_planned(
    tmp_path: Path,
) -> None:
    """So that the refusal can say who is in the way."""
    asked = question({}, pinned=True)
    crowded = replace(asked, staying=Staying(31 * GIB), others=Staying(31 * GIB))
    found = await planner(tmp_path).plan(crowded)
    assert found.needed_bytes > GIB


async def test_a_plan_that_fails_tells_what_would_fit(tmp_path: Path) -> None:
    """A shorter context, or a smaller quantisation; or that nothing would."""
    facts = replace(EIGHT, n_parameters=8_000_000_000)
    asked = replace(question({}), facts=facts, wishes=Options(num_ctx=4096))
    one = planner(tmp_path)
    with pytest.raises(DoesNotFit) as long:
        await one.outlook(
            replace(asked, wishes=Options(num_ctx=131072), machine=Machine(GIB, 8 * GIB, 8))
        )
    assert "As it is it would fit with a context of " in long.value.message
    assert "of its quantisations none would" in long.value.message
    with pytest.raises(DoesNotFit) as heavy:
        await one.outlook(replace(asked, machine=Machine(GIB, 4500 * MIB, 8)))
    assert "As it is no context makes it fit" in heavy.value.message
    assert "these would: Q2_K (about 2,861 MiB), Q3_K_M (about" in heavy.value.message
