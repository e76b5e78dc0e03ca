"""A real embedding model: the vectors that transformers calculates, and rankings with its body."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from qm.daemon.runner import wire
from qm.daemon.runner.failures import NotSupported
from qm.daemon.runner.process import Runner

from .conftest import started
from .test_embedding import unpacked

pytestmark = pytest.mark.asyncio(loop_scope="module")
PLACEMENT = wire.Placement(n_ctx=512, n_threads=1)
RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "minilm/vectors.json").read_text()
)
TEXTS = tuple(RECORDED["texts"])


async def embedder(model: Path, log: Path) -> Runner:
    return await started(model, log, PLACEMENT, embedding=True)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runner(
    minilm_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Runner]:
    made = await embedder(minilm_gguf, tmp_path_factory.mktemp("minilm") / "log")
    yield made
    await made.close()


async def test_the_vectors_are_those_of_transformers(runner: Runner) -> None:
    """Texts of any kind and length, many at once: they share batches without touching."""
    embedded = await runner.embed(wire.Embed(0, TEXTS))
    for text, ours, theirs in zip(TEXTS, embedded.vectors, RECORDED["vectors"], strict=True):
        difference = np.abs(np.subtract(unpacked(ours), theirs)).max()
        assert difference < 2e-3, text[:40]


async def test_many_requests_share_batches(runner: Runner) -> None:
    """Each gets its own vectors; a long list doesn't keep the short ones waiting."""
    long_list = asyncio.ensure_future(runner.embed(wire.Embed(0, (TEXTS[6],) * 40)))
    await runner.ping()
    short = await asyncio.gather(*(runner.embed(wire.Embed(0, (text,))) for text in TEXTS[:6]))
    assert not long_list.done()
    for answer, theirs in zip(short, RECORDED["vectors"], strict=False):
        assert np.abs(np.subtract(unpacked(answer.vectors[0]), theirs)).max() < 2e-3
    long_list.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long_list
    assert len((await runner.embed(wire.Embed(0, ("after",)))).vectors) == 1


async def test_fewer_dimensions(runner: Runner) -> None:
    """The first of them, of unit length again."""
    vector = unpacked((await runner.embed(wire.Embed(0, TEXTS[:1], dimensions=8))).vectors[0])
    first = RECORDED["vectors"][0][:8]
    length = math.sqrt(sum(value * value for value in first))
    assert np.allclose(vector, [value / length for value in first], atol=5e-3)


async def test_a_model_with_a_head_ranks(ranking_gguf: Path, tmp_path: Path) -> None:
    """Scores as transformers calculates them from query and text; it makes no vectors."""
    ranker = await embedder(ranking_gguf, tmp_path / "log")
    try:
        texts, query = TEXTS[:6], RECORDED["query"]
        ranked = await ranker.embed(wire.Embed(0, texts, rerank_query=query))
        scores = [unpacked(score)[0] for score in ranked.vectors]
        assert np.allclose(scores, RECORDED["scores"][:6], atol=0.05)
        with pytest.raises(NotSupported, match="ranks texts"):
            await ranker.embed(wire.Embed(0, texts))
    finally:
        await ranker.close()


async def test_a_model_without_a_head_does_not(runner: Runner) -> None:
    with pytest.raises(NotSupported, match="can't rank"):
        await runner.embed(wire.Embed(0, ("text",), rerank_query="query"))
