"""The engine with the real model: the right tokens, alone and among others."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.failures import NotSupported, RequestRefused
from qm.daemon.runner.process import Runner, collect

from .conftest import chat, greedy, reference_answers, started, until_idle

pytestmark = pytest.mark.asyncio(loop_scope="module")
SKY, SEA, ONE = chat("Why is the sky blue?"), chat("Name a sea."), chat("Count to five.")


async def test_answers_are_those_of_llama_cpp(runner: Runner, smollm2_gguf: Path) -> None:
    """Alone, together, and again from the cache: what llama-cpp-python's own class says."""
    prompts = [SKY, SEA, ONE]
    expected = await asyncio.to_thread(
        reference_answers, smollm2_gguf, [(prompt, 8) for prompt in prompts]
    )
    together = await asyncio.gather(*(collect(runner.generate(greedy(p))) for p in prompts))
    assert [text for text, _ in together] == [expected[prompt] for prompt in prompts]
    for prompt in prompts:
        text, done = await collect(runner.generate(greedy(prompt)))
        assert text == expected[prompt]
        assert done.cached_tokens == done.prompt_tokens - 1


async def test_a_request_is_counted_before_it_is_evaluated(runner: Runner) -> None:
    """`Evaluated` first, `Done` last, and the numbers add up."""
    async with aclosing(runner.generate(greedy(SKY, 4))) as stream:
        events = [event async for event in stream]
    assert isinstance(events[0], wire.Evaluated)
    assert events[0].prompt_tokens == 15
    done = events[-1]
    assert isinstance(done, wire.Done)
    chunks = [event for event in events if isinstance(event, wire.Chunk)]
    assert sum(chunk.n_tokens for chunk in chunks) == done.generated_tokens == 4
    assert done.reason == "length"
    assert done.prompt_ns > 0
    assert done.generate_ns > 0


async def test_the_end_token_stops(runner: Runner) -> None:
    """An end-of-generation token ends the answer and is not shown."""
    text, done = await collect(runner.generate(greedy(chat("Say only: yes"), 200)))
    assert done.reason == "stop"
    assert "<|im_end|>" not in text
    forced, done = await collect(
        runner.generate(greedy(chat("Say only: yes"), 40, options={"ignore_eos": True}))
    )
    assert (done.reason, done.generated_tokens) == ("length", 40)
    assert forced.startswith(text[:8])


async def test_stop_strings_are_cut_off(runner: Runner) -> None:
    """The stop string and all behind it stay hidden, though it spans tokens."""
    whole, _ = await collect(runner.generate(greedy(SKY, 12)))
    stop = whole[9:16]
    text, done = await collect(runner.generate(greedy(SKY, 12, options={"stop": (stop,)})))
    assert text == whole[: whole.index(stop)]
    assert (done.reason, done.stop_sequence) == ("stop_sequence", stop)


async def test_no_tokens_wanted(runner: Runner) -> None:
    """`num_predict: 0` is an empty answer."""
    text, done = await collect(runner.generate(greedy(SKY, 0)))
    assert (text, done.generated_tokens, done.reason) == ("", 0, "length")


async def test_seeds_repeat(runner: Runner) -> None:
    """The same seed gives the same text; other seeds differ."""

    async def answer(seed: int) -> str:
        options = wire.Options(temperature=1.5, top_k=0, top_p=1.0, seed=seed, num_predict=12)
        return (await collect(runner.generate(wire.Generate(0, options, SKY))))[0]

    assert await answer(7) == await answer(7)
    assert len({await answer(seed) for seed in range(3)}) > 1


async def test_seeds_repeat_once_the_prompt_is_cached(smollm2_gguf: Path, tmp_path: Path) -> None:
    """A prompt that was evaluated just now and one that is cached have the same answer."""
    options = wire.Options(temperature=1.5, top_k=0, top_p=1.0, num_predict=12, ignore_eos=True)
    fresh = await started(smollm2_gguf, tmp_path / "log", speculate=wire.Speculate.OFF)
    for seed in range(3):
        prompt = chat(f"Tell me {seed} things about the sea. " * 4)
        wanted = wire.Generate(0, msgspec.structs.replace(options, seed=seed), prompt)
        first, done = await collect(fresh.generate(wanted))
        again, done_again = await collect(fresh.generate(wanted))
        assert done.cached_tokens < done.prompt_tokens // 2
        assert done_again.cached_tokens == done.prompt_tokens - 1
        assert again == first
    await fresh.close()


@pytest.mark.parametrize(
    "options",
    [
        {"repeat_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.5},
        {"typical_p": 0.7, "min_p": 0.05},
        {"mirostat": 1},
        {"mirostat": 2, "mirostat_tau": 3.0},
        {"dry_multiplier": 0.8, "dry_penalty_last_n": -1},
        {"xtc_probability": 0.5, "xtc_threshold": 0.1},
        {"logit_bias": {260: 3.0}, "repeat_last_n": 0},
    ],
)
async def test_every_sampler_samples(runner: Runner, options: dict[str, object]) -> None:
    """Each chain gives an answer of the length asked for."""
    wanted = wire.Options(num_predict=4, seed=1, ignore_eos=True, **options)  # type: ignore[arg-type]
    _, done = await collect(runner.generate(wire.Generate(0, wanted, SKY)))
    assert done.generated_tokens == 4


async def test_logit_bias_decides(runner: Runner) -> None:
    """A large bias makes the token certain."""
    token = (await runner.tokenize(" yes", add_special=False))[0]
    text, _ = await collect(runner.generate(greedy(SKY, 3, options={"logit_bias": {token: 100.0}})))
    assert text == " yes yes yes"


async def test_logprobs_come_with_the_text(runner: Runner) -> None:
    """One entry a token, alternatives in order, the greedy choice on top."""
    async with aclosing(runner.generate(greedy(SKY, 4, logprobs=3))) as stream:
        chunks = [event async for event in stream if isinstance(event, wire.Chunk)]
    entries = [entry for chunk in chunks for entry in chunk.logprobs]
    assert len(entries) == 4
    for entry in entries:
        assert entry.top[0].token_id == entry.token_id
        assert 0 >= entry.logprob == entry.top[0].logprob >= entry.top[1].logprob
        assert len(entry.top) == 3
    assert "".join(entry.token for entry in entries) == "".join(chunk.text for chunk in chunks)


async def test_a_long_prompt_is_refused_with_both_counts(runner: Runner) -> None:
    """It never is cut silently."""
    with pytest.raises(RequestRefused) as refused:
        await collect(runner.generate(greedy("word " * 3000)))
    assert refused.value.facts == {"prompt_tokens": 3001, "n_ctx": 1024, "at_least": 0}


async def test_a_full_context_shifts_or_ends(smollm2_gguf: Path, tmp_path: Path) -> None:
    """With `shift` the answer goes on past the context; without, it ends there.

    With `truncate`, a prompt that is longer than the context loses its middle.
    """
    placement = wire.Placement(n_ctx=256, n_batch=128, n_ubatch=128, n_threads=1)
    small = await started(smollm2_gguf, tmp_path / "log", placement)
    try:
        prompt = "one two three four five six seven eight nine ten " * 24
        options = {"ignore_eos": True, "num_keep": 4}
        _, ended = await collect(small.generate(greedy(prompt, 40, shift=False, options=options)))
        assert ended.reason == "length"
        assert ended.prompt_tokens + ended.generated_tokens == 256 + 1
        _, shifted = await collect(
            small.generate(greedy(prompt, 40, options=options, return_context=True))
        )
        assert shifted.generated_tokens == 40
        assert len(shifted.context) < 256
        _, cut = await collect(small.generate(greedy("word " * 3000, 2, truncate=True)))
        assert 100 < cut.prompt_tokens < 200
        assert cut.generated_tokens == 2
    finally:
        await small.close()


async def test_sequences_that_outgrow_the_cache_take_turns(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    """More tokens at once than there are cells: some wait, and all answers are right."""
    placement = wire.Placement(n_ctx=256, n_batch=128, n_ubatch=128, n_parallel=3, n_threads=1)
    small = await started(smollm2_gguf, tmp_path / "log", placement)
    try:
        counts = [range(start, start + 20) for start in (101, 301, 501)]
        prompts = [" ".join(map(str, count)) + " " for count in counts]  # sure of what follows
        alone = [(await collect(small.generate(greedy(prompt, 40))))[0] for prompt in prompts]
        together = await asyncio.gather(*(collect(small.generate(greedy(p, 40))) for p in prompts))
        assert [text for text, _ in together] == alone
        cells = [done.prompt_tokens + done.generated_tokens for _, done in together]
        assert sum(cells) > 256
    finally:
        await small.close()


async def test_cancelling_frees_the_slot(runner: Runner) -> None:
    """Closing the iterator ends the request at its next token; others go on."""
    async with aclosing(runner.generate(greedy(SKY, -1, options={"ignore_eos": True}))) as stream:
        async for event in stream:
            if isinstance(event, wire.Chunk):
                break
    await until_idle(runner)
    assert (await collect(runner.generate(greedy(SEA, 2))))[1].generated_tokens == 2


async def test_more_requests_than_slots_all_finish(runner: Runner) -> None:
    """Those that find no slot wait for one; a cancelled one leaves the queue."""
    waiting = [
        asyncio.create_task(collect(runner.generate(greedy(chat(f"Say {n}"), 6)))) for n in range(9)
    ]
    waiting[8].cancel()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[8], asyncio.CancelledError)
    assert all(not isinstance(answer, BaseException) for answer in done[:8])


async def test_short_answers_are_not_stalled_by_a_long_prompt(runner: Runner) -> None:
    """A running answer gets tokens while another's prompt is evaluated."""
    order: list[str] = []

    async def watch(name: str, request: wire.Generate) -> None:
        async with aclosing(runner.generate(request)) as stream:
            async for event in stream:
                if isinstance(event, wire.Chunk):
                    order.append(name)
                    begun.set()

    begun = asyncio.Event()
    answer = asyncio.create_task(watch("short", greedy(SKY, 40, options={"ignore_eos": True})))
    await asyncio.wait_for(begun.wait(), 60)
    await watch("long", greedy("Rivers run to the sea. " * 40, 1))
    assert order[: order.index("long")].count("short") >= 3
    await answer


async def test_what_cannot_be_done_is_said(runner: Runner) -> None:
    """Foreign tokens, images, broken constraints, embeddings, a gap in the middle."""
    wrong = wire.Options(num_predict=1, logit_bias={10**9: 1.0})
    foreign = greedy("", tokens=(10**9,)), greedy("", tokens=(-1,))
    for request in (*foreign, greedy("", grammar="x"), wire.Generate(0, wrong)):
        with pytest.raises(RequestRefused):
            await collect(runner.generate(request))
    for request in (greedy("", images=(b"x",)), greedy("", suffix="end")):
        with pytest.raises(NotSupported):
            await collect(runner.generate(request))
    with pytest.raises(NotSupported):
        await runner.embed(wire.Embed(0, ("text",)))
    with pytest.raises(RequestRefused):
        await runner.detokenize([-5])


async def test_text_becomes_tokens_and_text_again(runner: Runner) -> None:
    """Any characters survive; control tokens have no text."""
    text = "Grüße, 世界 😀\n\tx"
    tokens = await runner.tokenize(text, add_special=False)
    assert await runner.detokenize(tokens) == text
    assert await runner.tokenize("<|im_end|>") == [2]
    assert len(await runner.tokenize("<|im_end|>", parse_special=False)) > 1


async def test_an_empty_prompt_starts_from_the_beginning(runner: Runner) -> None:
    """The model gets its first token and answers something."""
    _, done = await collect(runner.generate(greedy("", 2)))
    assert done.prompt_tokens == 1
