"""Guessing tokens ahead changes when they come, never which: each answer with and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from qm.daemon.runner import wire
from qm.daemon.runner.isolation import forgo_amx
from qm.daemon.runner.process import Runner, collect
from qm.modelfiles.build.quantise import Order, quantise
from qm.modelfiles.quantization import parse_quantize

from .conftest import PLACEMENT, greedy, started, until_idle
from .tiny_models import write_tiny_model

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIST = "apple 1, pear 2, plum 3, fig 4, lime 5; " * 4  # goes on as it began
CODE = "def area(width, height):\n    return width * height\n\n\n" * 3 + "def area(width"
PROSE = "The old harbour lay quiet in the morning, and the fishermen"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plain(
    smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Runner]:
    """A runner that guesses nothing."""
    log = tmp_path_factory.mktemp("plain") / "log"
    loaded = await started(smollm2_gguf, log, speculate=wire.Speculate.OFF)
    yield loaded
    await loaded.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def guessing(
    smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Runner]:
    """A runner that tries every guess, whether it pays or not."""
    log = tmp_path_factory.mktemp("guessing") / "log"
    loaded = await started(smollm2_gguf, log, speculate=wire.Speculate.ALWAYS)
    yield loaded
    await loaded.close()


async def answer(runner: Runner, request: wire.Generate) -> tuple[str, wire.Done]:
    return await collect(runner.generate(request))


async def both(plain: Runner, guessing: Runner, request: wire.Generate) -> wire.Done:
    """What the guessing runner says of an answer that is the same as the plain one's."""
    expected, without = await answer(plain, request)
    text, done = await answer(guessing, request)
    assert text == expected
    assert (done.reason, done.generated_tokens) == (without.reason, without.generated_tokens)
    assert (without.drafted_tokens, without.accepted_tokens) == (0, 0)
    return done


@pytest.mark.parametrize("prompt", [LIST, CODE, PROSE])
async def test_greedy_text_is_the_same(plain: Runner, guessing: Runner, prompt: str) -> None:
    """The first time, and again with the prompt in the cache."""
    first = await both(plain, guessing, greedy(prompt, 24))
    again = await both(plain, guessing, greedy(prompt, 24))
    assert again.cached_tokens == again.prompt_tokens - 1
    assert 0 <= first.accepted_tokens <= first.drafted_tokens
    if prompt == LIST:
        assert first.accepted_tokens >= 8


async def test_others_get_their_own_text(plain: Runner, guessing: Runner) -> None:
    """One of several guesses only until the next comes, to whom it would matter where it stands."""
    prompts = [LIST, CODE, LIST.replace("pear", "peach")]
    alone = [await answer(plain, greedy(prompt, 20)) for prompt in prompts]
    for prompt in prompts:  # from here on each prompt is cached as it is evaluated alone
        await answer(guessing, greedy(prompt, 1))
    together = await asyncio.gather(*(answer(guessing, greedy(prompt, 20)) for prompt in prompts))
    assert [text for text, _ in together] == [text for text, _ in alone]
    for prompt, (text, _) in zip(prompts, alone, strict=True):
        assert (await answer(guessing, greedy(prompt, 20)))[0] == text


async def test_those_whom_nobody_can_ask_again_guess_beside_each_other(guessing: Runner) -> None:
    """Each goes on with what its own text makes likely."""
    cold = wire.Options(temperature=0.01, num_predict=12)
    prompts = [LIST, LIST.replace("pear", "peach")]
    together = await asyncio.gather(
        *(answer(guessing, wire.Generate(0, cold, prompt)) for prompt in prompts)
    )
    assert all(done.accepted_tokens > 0 for _, done in together)
    for text, _ in together:
        assert "plum" in text


async def test_a_prompt_that_goes_on_from_an_answer_is_answered_alike(
    plain: Runner, guessing: Runner
) -> None:
    """Of guesses that were wrong nothing stays in the cache."""
    text, _ = await answer(plain, greedy(CODE, 17))
    await answer(guessing, greedy(CODE, 17))
    done = await both(plain, guessing, greedy(f"{CODE}{text} # and", 12))
    assert done.cached_tokens > 30


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7, "seed": 11},
        {"temperature": 1.2, "seed": 5, "top_k": 0, "repeat_penalty": 1.2},
        {"temperature": 0.9, "seed": 3, "mirostat": 2},
        {"temperature": 0.0, "repeat_penalty": 1.1, "presence_penalty": 0.3},
    ],
)
async def test_sampled_text_is_the_same(
    plain: Runner, guessing: Runner, options: dict[str, Any]
) -> None:
    """The same chain picks in the same order, so the same seed leads to the same text."""
    wanted = wire.Options(num_predict=20, **options)
    await both(plain, guessing, wire.Generate(0, wanted, LIST))


async def test_logprobs_belong_to_their_tokens(plain: Runner, guessing: Runner) -> None:
    """Each token has those of its own position."""

    async def entries(runner: Runner) -> list[wire.TokenLogprob]:
        async with aclosing(runner.generate(greedy(LIST, 12, logprobs=2))) as stream:
            chunks = [event async for event in stream if isinstance(event, wire.Chunk)]
        return [entry for chunk in chunks for entry in chunk.logprobs]

    found = await entries(guessing)
    assert len(found) == 12
    assert found == await entries(plain)


@pytest.mark.parametrize("count", range(1, 8))
async def test_an_answer_is_as_long_as_asked(plain: Runner, guessing: Runner, count: int) -> None:
    """No guess makes it longer."""
    done = await both(plain, guessing, greedy(LIST, count))
    assert (done.generated_tokens, done.reason) == (count, "length")


async def test_stop_strings_across_guesses(plain: Runner, guessing: Runner) -> None:
    """Wherever a stop string begins and ends, nothing of it is shown, and nothing behind it."""
    whole, _ = await answer(plain, greedy(LIST, 24))
    for start in range(6, 14):
        stop = whole[start : start + 9]
        request = greedy(LIST, 24, options={"stop": (stop,)})
        done = await both(plain, guessing, request)
        assert done.stop_sequence == stop


async def test_structured_answers_are_the_same(plain: Runner, guessing: Runner) -> None:
    """Guesses that break the format are wrong like others."""
    schema = msgspec.json.encode(
        {"type": "array", "items": {"enum": ["apple", "pear", "plum"]}, "minItems": 6}
    ).decode()
    request = greedy('Fruit: ["apple", "pear", "plum", "apple", "pear", "plum", "apple"]\n', 24)
    await both(plain, guessing, msgspec.structs.replace(request, json_schema=schema))


async def test_a_cancelled_answer_leaves_nothing_behind(plain: Runner, guessing: Runner) -> None:
    """What comes next in its slot is right."""
    async with aclosing(guessing.generate(greedy(LIST, 200))) as stream:
        chunks = 0
        async for event in stream:
            chunks += isinstance(event, wire.Chunk)
            if chunks == 7:
                break
    await until_idle(guessing)
    await both(plain, guessing, greedy(LIST, 20))


async def test_a_request_can_forgo_guesses(guessing: Runner) -> None:
    """`draft_num_predict: 0` tries none, 1 one at a time."""
    _, none = await answer(guessing, greedy(LIST, 12, options={"draft_num_predict": 0}))
    assert none.drafted_tokens == 0
    _, few = await answer(guessing, greedy(LIST, 12, options={"draft_num_predict": 1}))
    assert 0 < few.drafted_tokens <= 6


async def test_a_shifted_context_guesses_on(smollm2_gguf: Path, tmp_path: Path) -> None:
    """The text behind a context shift is the same, too."""
    small = msgspec.structs.replace(PLACEMENT, n_ctx=256, n_batch=128, n_ubatch=128, n_parallel=1)
    request = greedy(LIST * 3, 40, options={"ignore_eos": True, "num_keep": 4})
    texts = []
    for mode in (wire.Speculate.OFF, wire.Speculate.ALWAYS):
        runner = await started(smollm2_gguf, tmp_path / mode, small, speculate=mode)
        try:
            text, done = await answer(runner, request)
        finally:
            await runner.close()
        assert done.generated_tokens == 40 > 256 - done.prompt_tokens
        texts.append(text)
    assert done.accepted_tokens > 0
    assert texts[0] == texts[1]


async def test_a_larger_cache_on_several_threads(tmp_path: Path) -> None:
    """Past 256 cells they share the attention of a token that comes alone, and round otherwise."""
    plain, model = write_tiny_model(tmp_path / "plain.gguf", "llama"), tmp_path / "model.gguf"
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=forgo_amx) as child:
        done = child.submit(quantise, plain, model, Order(parse_quantize("Q4_1")), print)
        await asyncio.wrap_future(done)
    two = msgspec.structs.replace(PLACEMENT, n_threads=2)
    over_and_over = {"ignore_eos": True, "logit_bias": {70: 100.0}}  # so that guesses are right
    answers = []
    for mode in (wire.Speculate.OFF, wire.Speculate.ALWAYS):
        runner = await started(model, tmp_path / mode, two, speculate=mode)
        try:
            request = greedy(LIST[:140], 120, logprobs=0, options=over_and_over)
            async with aclosing(runner.generate(request)) as stream:
                events = [event async for event in stream]
        finally:
            await runner.close()
        chunks = [event for event in events if isinstance(event, wire.Chunk)]
        answers.append([entry for chunk in chunks for entry in chunk.logprobs])
    assert answers[0] == answers[1]
    last = events[-1]
    assert isinstance(last, wire.Done)
    assert last.prompt_tokens < 256 < last.prompt_tokens + last.generated_tokens
    assert last.accepted_tokens > 0


async def test_a_sliding_window_and_odd_kernels(gemma3_gguf: Path, tmp_path: Path) -> None:
    """gemma-3's weights are multiplied otherwise from four tokens on: fewer are tried."""
    texts = []
    for mode in (wire.Speculate.OFF, wire.Speculate.ALWAYS):
        runner = await started(gemma3_gguf, tmp_path / mode, speculate=mode)
        try:
            text, done = await answer(runner, greedy(LIST, 16))
        finally:
            await runner.close()
        texts.append(text)
    assert texts[0] == texts[1]
    assert done.drafted_tokens > 0
