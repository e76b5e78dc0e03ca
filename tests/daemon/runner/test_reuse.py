"""Prefixes: evaluated once, whoever has them, and never at the price of a wrong answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from qm.daemon.runner import wire
from qm.daemon.runner.process import Runner, collect

from .conftest import chat, greedy, started

pytestmark = pytest.mark.asyncio(loop_scope="module")
PLACEMENT = wire.Placement(n_ctx=2048, n_batch=256, n_ubatch=256, n_parallel=4, n_threads=1)
STORY = "The old lighthouse keeper counted the ships that passed in the night. " * 12
QUESTIONS = [chat(STORY + question) for question in ("Who?", "Where was it?", "When?", "Why so?")]
N = 6


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["smollm2", "gemma3"])
async def runner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Runner]:
    """A runner with plain attention, and one with sliding windows."""
    model: Path = request.getfixturevalue(f"{request.param}_gguf")
    loaded = await started(model, tmp_path_factory.mktemp("runner") / "log", PLACEMENT)
    yield loaded
    await loaded.close()


async def test_those_that_arrive_together_evaluate_a_common_beginning_once(runner: Runner) -> None:
    """One of them does the work, the others take its cells over; the answers stay the same."""
    together = await asyncio.gather(*(collect(runner.generate(greedy(q, N))) for q in QUESTIONS))
    cached = sorted(done.cached_tokens for _, done in together)
    assert cached[0] == 0
    assert cached[1] > 150
    for question, (text, _) in zip(QUESTIONS, together, strict=True):
        again, done = await collect(runner.generate(greedy(question, N)))
        assert again == text
        assert done.cached_tokens == done.prompt_tokens - 1


async def test_a_beginning_is_taken_from_a_running_answer(runner: Runner) -> None:
    """The answer that has it goes on undisturbed."""
    begun = asyncio.Event()
    story = "Rain fell on the harbour, and nobody was there to see it. " * 12

    async def long_answer() -> int:
        count = 0
        async for event in runner.generate(greedy(story, 24, options={"ignore_eos": True})):
            if isinstance(event, wire.Chunk):
                count += event.n_tokens
                begun.set()
        return count

    running = asyncio.create_task(long_answer())
    await asyncio.wait_for(begun.wait(), 120)
    _, done = await collect(runner.generate(greedy(story + "Then", 2)))
    assert done.cached_tokens > 100
    assert await running >= 23


async def test_a_branch_leaves_the_other_conversation_in_the_cache(runner: Runner) -> None:
    """Two conversations with one beginning: both go on without evaluating it again."""
    base = "You are a careful assistant who answers in few words. " * 10
    one, other = base + "Alpha. " * 60, base + "Omega! " * 60
    await collect(runner.generate(greedy(one, 2)))
    _, done = await collect(runner.generate(greedy(other, 2)))
    assert 50 < done.cached_tokens < done.prompt_tokens
    _, done = await collect(runner.generate(greedy(one + "More", 2)))
    assert done.cached_tokens > 0.8 * done.prompt_tokens


async def test_who_waits_for_another_goes_on_when_that_one_is_cancelled(runner: Runner) -> None:
    """The leader's part that is done serves; the rest is evaluated by the next."""
    story = "Mountains rise where the plates of the earth collide over ages. " * 14
    leader = asyncio.create_task(collect(runner.generate(greedy(story + "A", 2))))
    await asyncio.sleep(0)
    followers = [
        asyncio.create_task(collect(runner.generate(greedy(story + end, 2)))) for end in "BC"
    ]
    while not (await runner.ping()).active:  # noqa: ASYNC110  another process has no event for us
        await asyncio.sleep(0.005)
    leader.cancel()
    done = await asyncio.gather(*followers)
    assert all(answer.generated_tokens == 2 for _, answer in done)
