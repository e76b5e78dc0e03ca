"""A model that guesses for another: here the same one, which is right wherever it is sure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from qm.daemon.runner import wire
from qm.daemon.runner.failures import LoadFailed
from qm.daemon.runner.process import Runner, collect

from .conftest import PLACEMENT, chat, greedy, started

pytestmark = pytest.mark.asyncio(loop_scope="module")
QUESTIONS = [chat("Why is the sky blue?"), chat("Name three animals that live in the sea.")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def drafted(
    smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Runner]:
    """A runner that tries every guess of its draft model."""
    log = tmp_path_factory.mktemp("drafted") / "log"
    always = wire.Speculate.ALWAYS
    loaded = await started(smollm2_gguf, log, speculate=always, draft=str(smollm2_gguf))
    yield loaded
    await loaded.close()


async def answers(runner: Runner, requests: list[wire.Generate]) -> list[tuple[str, wire.Done]]:
    return await asyncio.gather(*(collect(runner.generate(one)) for one in requests))


async def test_text_is_the_same_with_a_draft(runner: Runner, drafted: Runner) -> None:
    """Alone, with guesses, and together."""
    requests = [greedy(question, 16) for question in QUESTIONS]
    expected = [(await answers(runner, [one]))[0][0] for one in requests]
    alone = [(await answers(drafted, [one]))[0] for one in requests]
    together = await answers(drafted, requests)
    assert [text for text, _ in alone] == expected
    assert [text for text, _ in together] == expected
    for _, done in alone:
        assert done.generated_tokens == 16
        assert done.drafted_tokens >= done.accepted_tokens > 0


async def test_several_that_need_not_repeat_have_guesses_together(drafted: Runner) -> None:
    """Most of them are right: almost nothing is left to chance."""
    cold = wire.Options(temperature=0.01, num_predict=16)
    together = await answers(drafted, [wire.Generate(0, cold, one) for one in QUESTIONS])
    for _, done in together:
        assert done.generated_tokens == 16
        assert done.drafted_tokens >= done.accepted_tokens > 0


async def test_sampled_text_is_the_same_with_a_draft(runner: Runner, drafted: Runner) -> None:
    """Guesses of the likeliest tokens are often wrong then, and taken back in both models."""
    wrong = []
    for seed in range(4):
        options = wire.Options(temperature=2.0, seed=seed, num_predict=16, ignore_eos=True)
        request = wire.Generate(0, options, QUESTIONS[0])
        expected, _ = (await answers(runner, [request]))[0]
        text, done = (await answers(drafted, [request]))[0]
        assert text == expected
        wrong.append(done.drafted_tokens - done.accepted_tokens)
    assert sum(wrong) > 0, wrong


async def test_a_draft_that_does_not_pay_is_left_alone(smollm2_gguf: Path, tmp_path: Path) -> None:
    """A model that takes as long as the one it guesses for is given up after a try or two.

    What is reported to be allocated is that of both.
    """
    slow, path = await Runner.spawn(tmp_path / "log"), str(smollm2_gguf)
    try:
        loaded = await slow.load(wire.Load(0, (path,), PLACEMENT, draft=path))
        _, done = (await answers(slow, [greedy(QUESTIONS[1], 24)]))[0]
    finally:
        await slow.close()
    assert done.generated_tokens == 24
    assert done.drafted_tokens <= 12
    weights_bytes = sum(use.weights_bytes for use in loaded.memory)
    assert weights_bytes > 180e6  # twice the file


async def test_another_vocabulary_is_refused(
    smollm2_gguf: Path, minilm_gguf: Path, tmp_path: Path
) -> None:
    """Loading says why."""
    with pytest.raises(LoadFailed, match="the draft model"):
        await started(smollm2_gguf, tmp_path / "log", draft=str(minilm_gguf))
