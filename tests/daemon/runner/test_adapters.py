"""LoRA adapters change what a model says exactly as merging them into its weights would."""

from __future__ import annotations

import asyncio
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.failures import LoadFailed
from qm.daemon.runner.process import Runner, collect

from ...modelfiles.build.tiny_llama import write_tiny_llama

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALPHA, RANK = 16.0, 4
PLACEMENT = wire.Placement(n_ctx=256, n_batch=64, n_ubatch=64, n_threads=1)
TARGETS = ("blk.0.attn_q.weight", "blk.0.ffn_down.weight", "blk.1.attn_output.weight")
Matrix = npt.NDArray[np.float32]


def factors(model: Path) -> dict[str, tuple[Matrix, Matrix]]:
    """A and B of each target, out of a fixed seed."""
    made = {}
    for number, tensor in enumerate(gguf.GGUFReader(model).tensors):
        if tensor.name in TARGETS:
            columns, rows = map(int, tensor.shape)
            random = np.random.default_rng(number)
            made[tensor.name] = (
                random.normal(0, 0.3, (RANK, columns)).astype(np.float32),
                random.normal(0, 0.3, (rows, RANK)).astype(np.float32),
            )
    return made


def write_adapter(model: Path, path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for name, (a, b) in factors(model).items():
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    finish(writer)


def write_merged(model: Path, path: Path) -> None:
    """`model` with the adapter in its weights."""
    writer, changes, reader = gguf.GGUFWriter(path, "llama"), factors(model), gguf.GGUFReader(model)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, element)
    for tensor in reader.tensors:
        data = np.array(tensor.data)
        if tensor.name in changes:
            a, b = changes[tensor.name]
            data = (data + ALPHA / RANK * (b @ a)).astype(np.float32)
        writer.add_tensor(tensor.name, data)
    finish(writer)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


async def tokens(model: Path, *adapters: Path) -> tuple[int, ...]:
    """What it generates after a few bytes, by itself or with adapters."""
    runner = await Runner.spawn(model.with_suffix(".log"))
    try:
        paths = tuple(map(str, adapters))
        await runner.load(wire.Load(0, (str(model),), PLACEMENT, adapters=paths))
        options = wire.Options(temperature=0.0, num_predict=12, ignore_eos=True)
        request = wire.Generate(0, options, "hello there", return_context=True)
        return (await collect(runner.generate(request)))[1].context
    finally:
        await runner.close()


async def test_an_adapter_works_as_merged(tmp_path: Path) -> None:
    """The same tokens as from merged weights, others than without."""
    base, adapter, merged = (tmp_path / f"{name}.gguf" for name in ("base", "adapter", "merged"))
    await asyncio.to_thread(write_tiny_llama, base, np.float32)
    await asyncio.to_thread(write_adapter, base, adapter)
    await asyncio.to_thread(write_merged, base, merged)
    plain, adapted = await tokens(base), await tokens(base, adapter)
    assert adapted == await tokens(merged)
    assert adapted != plain


async def test_an_adapter_of_another_model_fails_the_load(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    """With llama.cpp's reason."""
    base, adapter = tmp_path / "base.gguf", tmp_path / "adapter.gguf"
    await asyncio.to_thread(write_tiny_llama, base, np.float32)
    await asyncio.to_thread(write_adapter, base, adapter)
    runner = await Runner.spawn(tmp_path / "log")
    try:
        with pytest.raises(LoadFailed, match="adapter"):
            await runner.load(
                wire.Load(0, (str(smollm2_gguf),), PLACEMENT, adapters=(str(adapter),))
            )
    finally:
        await runner.close()
