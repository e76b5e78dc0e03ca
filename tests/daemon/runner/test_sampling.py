"""Every sampling option does what its name says, on a model whose choices are many."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from qm.daemon.runner import wire
from qm.daemon.runner.engine import STILL_S
from qm.daemon.runner.process import Runner, collect

from .conftest import PLACEMENT, started
from .tiny_models import write_tiny_model

pytestmark = pytest.mark.asyncio(loop_scope="module")
Options = dict[str, Any]  # Any: of whatever type the option is
PROMPT = (1, *range(40, 60))
BYTE_C3 = 3 + 0xC3  # three special tokens come first
N = 40
LIMIT_S = 60.0
OPEN: Options = {"top_k": 0, "top_p": 1.0, "temperature": 1.0}  # nothing is cut


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def tiny(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runner]:
    folder = tmp_path_factory.mktemp("sampling")
    model = await asyncio.to_thread(write_tiny_model, folder / "model.gguf", "llama")
    runner = await started(model, folder / "log", PLACEMENT)
    await tokens(runner, n=1)  # from here on the prompt is cached, and evaluated alike
    yield runner
    await runner.close()


async def entries(
    runner: Runner, n: int = N, top: int = 0, **options: Any
) -> list[wire.TokenLogprob]:
    wanted = wire.Options(num_predict=n, ignore_eos=True, **options)
    request = wire.Generate(0, wanted, tokens=PROMPT, logprobs=top)
    found: list[wire.TokenLogprob] = []
    async with aclosing(runner.generate(request)) as events:
        async for event in events:
            if isinstance(event, wire.Chunk):
                found += event.logprobs
    assert len(found) == n
    return found


async def tokens(runner: Runner, n: int = N, **options: Any) -> list[int]:
    return [entry.token_id for entry in await entries(runner, n, **options)]


async def greedy(runner: Runner, **options: Any) -> list[int]:
    return await tokens(runner, temperature=0.0, **options)


async def firsts(runner: Runner, **options: Any) -> set[int]:
    """The first tokens of answers with many seeds."""
    answers = [tokens(runner, n=1, seed=seed, **(OPEN | options)) for seed in range(30)]
    return {token for answer in await asyncio.gather(*answers) for token in answer}


async def test_a_seed_repeats_and_others_differ(tiny: Runner) -> None:
    """Random by default: no seed, no repetition."""
    for seed in (7, 2**32 - 1):
        assert await tokens(tiny, seed=seed, **OPEN) == await tokens(tiny, seed=seed, **OPEN)
    assert await tokens(tiny, seed=7, **OPEN) != await tokens(tiny, seed=8, **OPEN)
    assert await tokens(tiny, **OPEN) != await tokens(tiny, seed=-1, **OPEN)
    assert len(await firsts(tiny)) > 5


@pytest.mark.parametrize(
    "option",
    [
        {"top_k": 1},
        {"top_p": 1e-6},
        {"min_p": 1.0},
        {"temperature": 1e-4},
        {"mirostat": 2, "mirostat_tau": 1e-4},
    ],
    ids="+".join,
)
async def test_a_cut_to_one_is_greedy(tiny: Runner, option: Options) -> None:
    """Whatever the seed."""
    best = await greedy(tiny)
    for seed in (1, 2):
        assert await tokens(tiny, seed=seed, **(OPEN | option)) == best


@pytest.mark.parametrize(
    "option",
    [{"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.4}],
    ids="+".join,
)
async def test_a_cut_leaves_some(tiny: Runner, option: Options) -> None:
    """Fewer than without, all of them among the likeliest."""
    (entry,) = await entries(tiny, 1, 20, temperature=0.0)
    likely = [other.token_id for other in entry.top]
    left = await firsts(tiny, **option)
    assert len(left) < len(await firsts(tiny))
    assert left <= set(likely)


async def test_typical_is_neither_sure_nor_odd(tiny: Runner) -> None:
    """What surprises about as much as the average does: fewer than without."""
    assert len(await firsts(tiny, typical_p=0.3)) < len(await firsts(tiny))


async def test_temperature_spreads(tiny: Runner) -> None:
    assert len(await firsts(tiny, temperature=0.3)) < len(await firsts(tiny, temperature=3.0))


@pytest.mark.parametrize("version", [1, 2])
async def test_mirostat_keeps_to_its_surprise(tiny: Runner, version: int) -> None:
    """A small one is dull, a large one is not."""

    async def surprise(tau: float) -> float:
        found = await entries(tiny, mirostat=version, mirostat_tau=tau, seed=3, temperature=1.0)
        return sum(-entry.logprob for entry in found) / len(found)

    assert await surprise(0.3) < await surprise(5.0)


async def test_penalties_keep_from_repeating(tiny: Runner) -> None:
    """Alone, the model repeats itself; with any of them it does not, within what they look at."""
    repeated = await greedy(tiny)
    assert len(set(repeated)) < N
    for option in ("repeat_penalty", "presence_penalty", "frequency_penalty"):
        said = await greedy(tiny, **{option: 1000.0}, repeat_last_n=-1)
        assert len(set(said)) == N
        assert not set(said) & set(PROMPT)
        assert await greedy(tiny, **{option: 1000.0}, repeat_last_n=0) == repeated


async def test_a_frequency_counts_and_a_presence_does_not(tiny: Runner) -> None:
    """A reward for the present: the more often, the better, or all the same."""
    often = await greedy(tiny, frequency_penalty=-2.0, repeat_last_n=-1)
    present = await greedy(tiny, presence_penalty=-2.0, repeat_last_n=-1)
    assert len(set(often)) <= len(set(present))


async def test_dry_ends_a_repetition_of_more_than_one_token(tiny: Runner) -> None:
    """No pair of tokens comes twice; single ones may."""
    options: Options = {"dry_multiplier": 1000.0, "dry_allowed_length": 1, "dry_penalty_last_n": -1}
    pairs = list(pairwise(await greedy(tiny, **options)))
    assert len(set(pairs)) == len(pairs)
    repeated = list(pairwise(await greedy(tiny)))
    assert len(set(repeated)) < len(repeated)


async def test_xtc_leaves_out_the_likeliest(tiny: Runner) -> None:
    """Of those above the threshold only the last stays; with probability 0 nothing happens."""
    (entry,) = await entries(tiny, 1, 5, temperature=0.0)
    likely = [other.token_id for other in entry.top]
    threshold = math.exp(entry.top[2].logprob) * 0.99  # three are above
    left = await firsts(tiny, xtc_probability=1.0, xtc_threshold=threshold)
    assert not left & set(likely[:2])
    assert likely[2] in left
    never = await firsts(tiny, xtc_probability=0.0, xtc_threshold=threshold)
    assert likely[0] in never


async def test_a_bias_forces_and_forbids(tiny: Runner) -> None:
    best = await greedy(tiny)
    assert best[0] not in await greedy(tiny, logit_bias={best[0]: -1000.0})
    assert await greedy(tiny, logit_bias={77: 1000.0}) == [77] * N


async def test_the_cut_character_at_the_end_may_complete_a_stop_string(tiny: Runner) -> None:
    """A byte that begins a character reads as U+FFFD once no more can follow."""
    for n, said in ((2, ("\ufffd\ufffd", "length")), (3, ("", "stop_sequence"))):
        wanted = wire.Options(num_predict=n, logit_bias={BYTE_C3: 1000.0}, stop=("\ufffd" * 3,))
        text, done = await collect(tiny.generate(wire.Generate(0, wanted, tokens=PROMPT)))
        assert (text, done.reason) == said


async def test_top_logprobs_are_what_they_say(tiny: Runner) -> None:
    """As many as asked for, in order, none left out, of a distribution that sums to one."""
    (entry,) = await entries(tiny, 1, 20, temperature=0.0)
    logprobs = [other.logprob for other in entry.top]
    assert len(logprobs) == 20
    assert logprobs == sorted(logprobs, reverse=True)
    assert (entry.token_id, entry.logprob) == (entry.top[0].token_id, logprobs[0])
    assert len({other.token_id for other in entry.top}) == 20
    (whole,) = await entries(tiny, 1, 1000, temperature=0.0)
    assert sum(math.exp(other.logprob) for other in whole.top) == pytest.approx(1)
    biased = await entries(tiny, 1, 1, temperature=0.0, logit_bias={77: 1000.0})
    assert biased[0].token_id == 77
    assert biased[0].top[0].token_id == entry.token_id  # what the model thought before that


async def test_the_likeliest_token_is_the_same_however_it_is_found(tiny: Runner) -> None:
    """Once numpy is there, greedy answers are picked without a chain; a bias takes the chain."""
    by_chain = await greedy(tiny, logit_bias={5: 0.0})
    maps = Path(f"/proc/{tiny.pid}/maps")
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    while "numpy" not in await asyncio.to_thread(maps.read_text):
        assert asyncio.get_running_loop().time() < deadline, "numpy was not fetched"
        assert await greedy(tiny) == by_chain
        await asyncio.sleep(2 * STILL_S)  # a rest is when it is fetched
    for _ in range(3):
        assert await greedy(tiny) == by_chain
    first = by_chain[0]
    without = await greedy(tiny, logit_bias={first: float("-inf")})
    assert first not in without
