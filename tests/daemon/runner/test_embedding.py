"""Embeddings, from a model that says how it pools."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from qm.daemon.runner import wire
from qm.daemon.runner.failures import NotSupported, RequestRefused
from qm.daemon.runner.process import Runner, collect
from qm.store.gguf import read_header

from .conftest import greedy, started, with_numbers
from .tiny_models import write_tiny_model

pytestmark = pytest.mark.asyncio(loop_scope="module")
PLACEMENT = wire.Placement(n_ctx=512, n_batch=64, n_ubatch=64, n_parallel=3, n_threads=1)
_MEAN, _LAST = 1, 3


def with_mean_pooling(model: Path) -> bytes:
    """`model` with one more metadata field: how to pool."""
    return with_numbers(model, {f"{read_header(model).architecture}.pooling_type": _MEAN})


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runner(
    smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Runner]:
    """A runner that embeds."""
    folder = tmp_path_factory.mktemp("embed")
    model = folder / "model.gguf"
    await asyncio.to_thread(lambda: model.write_bytes(with_mean_pooling(smollm2_gguf)))
    made = await Runner.spawn(folder / "log")
    loaded = await made.load(wire.Load(0, (str(model),), PLACEMENT, embedding=True))
    assert loaded.pooling == "mean"
    yield made
    await made.close()


def unpacked(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def cosine(first: bytes, second: bytes) -> float:
    return sum(a * b for a, b in zip(unpacked(first), unpacked(second), strict=True))


async def test_vectors_have_unit_length_and_mean_something(runner: Runner) -> None:
    """Many inputs at once give what each gives alone, in their order."""
    texts = (
        "The cat sat on the mat.",
        "A cat is sitting on a rug.",
        "int main(void) { }",
        "x",
        "y",
    )
    together = await runner.embed(wire.Embed(0, texts))
    assert len(together.vectors) == len(texts)
    assert together.prompt_tokens > len(texts)
    for text, vector in zip(texts, together.vectors, strict=True):
        assert len(unpacked(vector)) == 576
        assert math.isclose(cosine(vector, vector), 1.0, rel_tol=1e-5)
        alone = await runner.embed(wire.Embed(0, (text,)))
        assert cosine(alone.vectors[0], vector) > 0.99
    assert cosine(together.vectors[0], together.vectors[1]) > cosine(
        together.vectors[0], together.vectors[2]
    )


async def test_fewer_dimensions_are_normalised_again(runner: Runner) -> None:
    """And impossible ones are refused."""
    short = await runner.embed(wire.Embed(0, ("text",), dimensions=16))
    assert len(unpacked(short.vectors[0])) == 16
    assert math.isclose(cosine(short.vectors[0], short.vectors[0]), 1.0, rel_tol=1e-5)
    for wrong in (-1, 577):
        with pytest.raises(RequestRefused, match="dimensions"):
            await runner.embed(wire.Embed(0, ("text",), dimensions=wrong))


async def test_long_inputs_are_cut_or_refused(runner: Runner) -> None:
    """As the request says."""
    long = "word " * 500
    cut = await runner.embed(wire.Embed(0, (long, "short")))
    assert cut.prompt_tokens < 70
    with pytest.raises(RequestRefused) as refused:
        await runner.embed(wire.Embed(0, ("short", long), truncate=False))
    assert refused.value.facts == {"index": 1, "tokens": 501, "limit": 64}


async def test_a_model_that_pools_by_the_last_token_reads_on(tmp_path: Path) -> None:
    """In pieces, what fits into no batch; the vector is that of the whole input."""
    plain = write_tiny_model(tmp_path / "plain.gguf", "llama")
    model = tmp_path / "model.gguf"
    model.write_bytes(with_numbers(plain, {"llama.pooling_type": _LAST}))
    long = tuple(3 + at % 50 for at in range(200))
    inputs = wire.Embed(0, tokens=(long, long[:9], long), truncate=False)
    vectors = []
    for at_once in (64, 256):
        placement = msgspec.structs.replace(PLACEMENT, n_batch=at_once, n_ubatch=at_once)
        runner = await started(model, tmp_path / "log", placement, embedding=True)
        try:
            embedded = await runner.embed(inputs)
            with pytest.raises(RequestRefused) as refused:
                await runner.embed(wire.Embed(0, tokens=(long * 3,), truncate=False))
        finally:
            await runner.close()
        assert refused.value.facts["limit"] == PLACEMENT.n_ctx
        vectors.append(embedded.vectors)
    (pieces, short, again), (whole, alone, _) = vectors
    assert cosine(pieces, whole) > 0.9999 > cosine(pieces, short)
    assert cosine(pieces, again) > 0.9999
    assert cosine(short, alone) > 0.9999


async def test_nothing_to_embed(runner: Runner) -> None:
    """No inputs give no vectors; it does not generate."""
    assert (await runner.embed(wire.Embed(0))).vectors == ()
    with pytest.raises(NotSupported):
        await collect(runner.generate(greedy("x")))
