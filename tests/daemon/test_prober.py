"""What llama.cpp says about devices and sizes, asked in a child process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from qm.daemon.devices import CPU, DRAFT, PROJECTOR
from qm.daemon.prober import ProbeFailed, Prober
from qm.daemon.runner.process import Runner
from qm.daemon.runner.wire import Load, Placement

from ..modelfiles.build.tiny_llama import write_tiny_llama
from .runner.tiny_projector import write_tiny_projector


@asynccontextmanager
async def prober(tmp_path: Path) -> AsyncIterator[Prober]:
    one = Prober(tmp_path)
    try:
        yield one
    finally:
        await one.close()


async def test_the_cpu_is_a_device(tmp_path: Path) -> None:
    """Every build has it; it holds no layers of its own."""
    async with prober(tmp_path) as one:
        found = await one.devices(())
    assert "CPU" in [device.name for device in found.devices]
    assert not [device for device in found.gpus if device.kind == "cpu"]
    assert found.binding


async def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With the reason; the rest is told all the same."""
    async with prober(tmp_path) as one:
        found = await one.devices(("127.0.0.1:1",))
    assert [endpoint for endpoint, _ in found.missing] == ["127.0.0.1:1"]
    assert any(word in found.missing[0][1] for word in ("can't be reached", "without RPC"))
    assert found.devices


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("n_ctx", [512, 4096])
async def test_a_dry_run_tells_what_a_load_takes(
    tmp_path: Path, smollm2_gguf: Path, n_ctx: int, kv_type: str
) -> None:
    """To the byte: KV cache, compute buffers, weights."""
    placement = Placement(n_ctx=n_ctx, n_parallel=4, kv_type=kv_type)
    async with prober(tmp_path) as one:
        measured = await one.measure((str(smollm2_gguf),), placement, embedding=False)
    runner = await Runner.spawn(tmp_path / "runner.log")
    try:
        loaded = await runner.load(Load(1, (str(smollm2_gguf),), placement), lambda _: None)
    finally:
        await runner.close()
    (actual,) = loaded.memory
    assert sum(one.kv_bytes for one in measured) == actual.kv_bytes
    assert sum(one.compute_bytes for one in measured) == actual.compute_bytes
    assert sum(one.weights_bytes for one in measured) == actual.weights_bytes


@pytest.mark.parametrize("model", ["smollm2_gguf", "gemma3_gguf"])
async def test_another_split_takes_no_other_buffers_for_its_vocabulary(
    tmp_path: Path, model: str, request: pytest.FixtureRequest
) -> None:
    """The second time only the number of tokens is told: the account stays the same."""
    weights = (str(request.getfixturevalue(model)),)
    once = Placement(n_ctx=512, n_parallel=2)
    again = Placement(n_ctx=512, n_parallel=2, use_mmap=False)
    async with prober(tmp_path) as one:
        whole = await one.measure(weights, once, embedding=False)
        counted = await one.measure(weights, again, embedding=False)
    assert whole
    assert counted == whole


async def test_a_draft_model_is_measured_beside_its_model(
    tmp_path: Path, smollm2_gguf: Path
) -> None:
    """To the byte, and told apart."""
    path = str(smollm2_gguf)
    placement = Placement(n_ctx=512, n_parallel=4)
    async with prober(tmp_path) as one:
        measured = await one.measure((path,), placement, embedding=False, draft=path)
    runner = await Runner.spawn(tmp_path / "runner.log")
    try:
        loaded = await runner.load(Load(1, (path,), placement, draft=path), lambda _: None)
    finally:
        await runner.close()
    (actual,) = loaded.memory
    assert {one.part for one in measured} == {"", DRAFT}
    assert sum(one.kv_bytes for one in measured) == actual.kv_bytes
    assert sum(one.compute_bytes for one in measured) == actual.compute_bytes
    assert sum(one.weights_bytes for one in measured) == actual.weights_bytes


async def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """The probe says why, or dies of it; the next question is answered either way."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 200)
    async with prober(tmp_path) as one:
        with pytest.raises(ProbeFailed):
            await one.measure((str(broken),), Placement(n_ctx=512), embedding=False)
        assert (await one.devices(())).devices


async def test_a_probe_that_dies_costs_one_question_at_most(tmp_path: Path) -> None:
    """The next one gets a new child."""
    async with prober(tmp_path) as one:
        await one.devices(())
        assert one.pid is not None
        os.kill(one.pid, signal.SIGKILL)
        with suppress(ProbeFailed):
            await one.devices(())
        assert (await one.devices(())).devices


async def test_a_projector_is_measured_too(tmp_path: Path) -> None:
    """Foreseen by a dry run of its own, told by the runner from what was allocated."""
    model, projector = tmp_path / "model.gguf", tmp_path / "projector.gguf"
    await asyncio.to_thread(write_tiny_llama, model, np.float32)
    await asyncio.to_thread(write_tiny_projector, projector)
    placement = Placement(n_ctx=512, n_threads=1)
    async with prober(tmp_path) as one:
        bare = await one.measure((str(model),), placement, embedding=False)
        measured = await one.measure(
            (str(model),), placement, embedding=False, projector=str(projector)
        )
    (foreseen,) = [row for row in measured if row.buffer == PROJECTOR]
    assert foreseen.device == CPU
    assert foreseen.weights_bytes > projector.stat().st_size // 2
    memory = {}
    for path in (None, str(projector)):
        runner = await Runner.spawn(tmp_path / "runner.log")
        try:
            loaded = await runner.load(Load(1, (str(model),), placement, projector=path))
        finally:
            await runner.close()
        memory[path] = sum(row.weights_bytes for row in loaded.memory)
    assert set(measured) >= set(bare)
    taken = memory[str(projector)] - memory[None]
    assert abs(taken - foreseen.weights_bytes) <= 64 << 10


async def test_a_fresh_probe_waits_for_the_first_question(tmp_path: Path) -> None:
    """And again after one that talked to another machine was let go."""
    async with prober(tmp_path) as one:
        one.warm()
        await until(lambda: one.pid is not None)
        warmed = one.pid
        await one.devices(())
        assert one.pid == warmed
        await one.devices(("127.0.0.1:1",))
        asked = one.pid
        assert asked not in (None, warmed)
        await one.release()
        await until(lambda: one.pid is not None)
        assert one.pid != asked


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  a process sets no events
            await asyncio.sleep(0.02)
