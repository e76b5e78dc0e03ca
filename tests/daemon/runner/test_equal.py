"""Whatever ran before or beside it, an answer is the one that `Llama` gives from scratch.

Every kind of memory that llama.cpp has: plain attention, sliding windows, recurrent states, both.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.batching import GRAIN, LONGEST_TILE_S
from qm.daemon.runner.process import Runner

from .reference import Answer, answer, assert_same, reference
from .tiny_models import KINDS, VOCABULARY, write_tiny_model

# Cells for three answers, but not for what five slots remember. Flash attention rounds to f16.
PLACEMENT = wire.Placement(
    n_ctx=256,
    n_batch=64,
    n_ubatch=32,
    n_parallel=3,
    n_spare=2,
    n_threads=1,
    flash_attention="off",
)
LONG = bool(os.environ.get("QM_SOAK"))
N, ROUNDS = 10, 60 if LONG else 6
Prompt = tuple[int, ...]


class Crowd:
    """Prompts as clients send them: anew, on from an answer, branched off, the same again."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seen: list[Prompt] = []

    def prompts(self) -> list[Prompt]:
        """Those of one round, which run at once."""
        return [self._prompt() for _ in range(self._random.randint(1, 4))]

    def said(self, prompt: Prompt, tokens: Sequence[int]) -> None:
        """What can be gone on from later."""
        self._seen.append((*prompt, *tokens))

    def words(self, least: int, most: int) -> Prompt:
        count = self._random.randint(least, most)
        return tuple(self._random.randrange(3, VOCABULARY) for _ in range(count))

    def _prompt(self) -> Prompt:
        if not self._seen or self._random.random() < 0.2:
            return (1, *self.words(4, 120))
        earlier = self._random.choice(self._seen[-4:])
        whole = len(earlier)
        kept = self._random.choice((whole, whole - N, self._random.randint(1, whole)))
        return (*earlier[:kept], *self.words(0, 20))[:200]


async def loaded(model: Path, kv: Path, placement: wire.Placement = PLACEMENT) -> Runner:
    """A runner that remembers conversations in `kv`."""
    runner = await Runner.spawn(kv / "log")
    directory = {"kv_directory": str(kv), "kv_budget_bytes": 1 << 26, "model_digest": "sha256:1"}
    load = wire.Load(0, (str(model),), placement, **directory)  # type: ignore[arg-type]
    try:
        await runner.load(load)
    except BaseException:
        await runner.close()
        raise
    return runner


async def serve(runner: Runner, crowd: Crowd) -> list[tuple[Prompt, Answer, wire.Done]]:
    """Prompts of a crowd with their answers; as many others are cancelled, or outgrow the context.

    One of them shifts it.
    """
    answers = []
    for _ in range(ROUNDS):
        prompts = crowd.prompts()
        given_up = asyncio.create_task(answer(runner, (*prompts[0], *crowd.words(1, 50)), 150))
        given = await asyncio.gather(*(answer(runner, prompt, N) for prompt in prompts))
        given_up.cancel()
        await asyncio.wait((given_up,))
        for prompt, (said, done) in zip(prompts, given, strict=True):
            crowd.said(prompt, said.tokens)
            answers.append((prompt, said, done))
    return answers


async def outgrow(
    runner: Runner, crowd: Crowd, *, shifts: bool = True
) -> list[tuple[Prompt, Answer, wire.Done]]:
    """An answer outgrows the context; then its prompt comes again, longer, shorter and longer.

    Where llama.cpp can't move what is cached, the answer ends there.
    """
    prompt = (1, *crowd.words(200, 200))
    _, shifted = await answer(runner, prompt, 100)
    most = 100 if shifts else PLACEMENT.n_ctx + 1 - len(prompt)
    assert (shifted.generated_tokens, shifted.reason) == (most, "length")
    again = [(*prompt, 7), prompt[:5], (*prompt, 7)]
    answers = [(one, *(await answer(runner, one, N))) for one in again]
    _, ended = await answer(runner, prompt, 100, shift=False)
    assert ended.prompt_tokens + ended.generated_tokens == PLACEMENT.n_ctx + 1
    return answers


@pytest.mark.parametrize(
    "kind", KINDS if LONG else ("llama", "gemma3", "qwen2vl", "mamba2", "granitehybrid")
)
async def test_a_crowd_gets_the_answers_of_llama(tmp_path: Path, kind: str) -> None:
    """Together and apart, on from others' beginnings and their own; after shifts and a reload."""
    model = await asyncio.to_thread(write_tiny_model, tmp_path / "model.gguf", kind)
    crowd, answers = Crowd(seed=5), []
    for go_on in (partial(outgrow, shifts=kind != "qwen2vl"), serve):
        runner = await loaded(model, tmp_path)
        try:
            answers += await serve(runner, crowd)
            answers += await go_on(runner, crowd)
        finally:
            await runner.close()
    prompts = [prompt for prompt, _, _ in answers]
    expected = await asyncio.to_thread(reference, model, prompts, N)
    for at, ((prompt, ours, _), theirs) in enumerate(zip(answers, expected, strict=True)):
        assert len(ours.tokens) == N
        assert_same(ours, theirs, f"{kind}, answer {at} to {len(prompt)} tokens", rounding=0.01)
    assert sum(done.cached_tokens for _, _, done in answers) > 0


STORY = "The old keeper counted the ships that passed the lighthouse in the night. "


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("smollm2", 100), ("gemma3", 512)])
async def test_real_models_answer_as_llama_does(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, least: int
) -> None:
    """Short and past gemma's window of 512; alone, together, and from the cache."""
    model: Path = request.getfixturevalue(f"{name}_gguf")
    placement = wire.Placement(
        n_ctx=4096, n_batch=256, n_ubatch=256, n_parallel=4, n_spare=4, n_threads=1
    )
    least = 1000 if LONG else least
    count = least // 13 + 1
    texts = [STORY * count + "In the morning", STORY * (count // 3) + "But", "The sea is"]
    runner = await loaded(model, tmp_path, placement)
    try:
        prompts = [tuple(await runner.tokenize(text)) for text in texts]
        assert len(prompts[0]) > least
        first, _ = await answer(runner, prompts[0], N)
        together = await asyncio.gather(*(answer(runner, prompt, N) for prompt in prompts[1:]))
        again = [await answer(runner, prompt, N) for prompt in prompts]
    finally:
        await runner.close()
    expected = await asyncio.to_thread(reference, model, prompts, N)
    for ours, theirs in zip([first, *(one for one, _ in together)], expected, strict=True):
        assert_same(ours, theirs, name)
    for (ours, done), theirs, prompt in zip(again, expected, prompts, strict=True):
        assert done.cached_tokens > 0.9 * len(prompt) - 5
        assert_same(ours, theirs, name)


@pytest.mark.slow
async def test_an_answer_repeats_to_the_bit_once_its_prompt_is_forgotten(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    """The first prompt ever is fed at another pace than later ones.

    Where a machine is too busy for whole tiles they are cut, and the last bits may change.
    """
    placement = wire.Placement(n_ctx=1024, n_parallel=1, n_spare=0, n_threads=1)
    talk = tuple(range(1000, 1101))
    runner = await loaded(smollm2_gguf, tmp_path, placement)
    try:
        first, _ = await answer(runner, talk, 4)
        for _ in range(20):
            _, other = await answer(runner, (2000, *talk[:70]), 1)
            again, done = await answer(runner, talk, 4)
            assert done.cached_tokens == 0
            if max(tile_s(other), tile_s(done)) < LONGEST_TILE_S / 2:
                break
    finally:
        await runner.close()
    assert again == first


def tile_s(done: wire.Done) -> float:
    """Seconds that a tile of this prompt took."""
    return done.prompt_ns / 1e9 * GRAIN / done.prompt_tokens
