"""Log probabilities of prompts are those that llama-cpp-python's own class computes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.process import Runner

from .conftest import greedy, started
from .reference import ROUNDING, entries_of
from .tiny_models import VOCABULARY, write_tiny_model

pytestmark = pytest.mark.asyncio(loop_scope="module")
TEXT = (
    "The quick brown fox jumps over the lazy dog, and the naïve dog — 狐 — watches the fox go. "
    "Every morning the same thing happens again, until one day the fox does not come."
)
_REFERENCE = """
import json, sys
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
from llama_cpp import Llama
model, tokens = sys.argv[1], json.loads(sys.argv[2])
asked = {"logits_all": True, "flash_attn": True, "verbose": False}
llama = Llama(model, n_ctx=512, n_threads=1, n_threads_batch=1, **asked)
llama.eval(tokens)
scores = Llama.logits_to_logprobs(llama.scores[: len(tokens)])
print(json.dumps([float(row[token]) for row, token in zip(scores, tokens[1:])]))
"""


def reference(model: Path, tokens: list[int]) -> list[float]:
    """The log probability of each token but the first."""
    done = subprocess.run(
        [sys.executable, "-c", _REFERENCE, str(model), json.dumps(tokens)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    scores: list[float] = json.loads(done.stdout.splitlines()[-1])
    return scores


def assert_like(entries: list[wire.TokenLogprob], tokens: list[int], expected: list[float]) -> None:
    assert [entry.token_id for entry in entries] == tokens
    assert [entry.known for entry in entries] == [False] + [True] * len(expected)
    for entry, score in zip(entries[1:], expected, strict=True):
        assert abs(entry.logprob - score) < ROUNDING


async def test_a_prompt_is_scored_whatever_is_cached_or_goes_on(
    runner: Runner, smollm2_gguf: Path
) -> None:
    """Alone, again although it is cached, and beside answers and another of its kind."""
    tokens = await runner.tokenize(TEXT, add_special=False)
    expected = reference(smollm2_gguf, tokens)
    request = greedy(TEXT, 0, logprobs=1, score_prompt=True)
    for _ in range(2):
        entries, done = await entries_of(runner, request)
        assert_like(entries, tokens, expected)
        assert (done.reason, done.generated_tokens) == ("length", 0)
        assert (done.prompt_tokens, done.cached_tokens) == (len(tokens), 0)
    assert entries[1].top[0].logprob >= entries[1].logprob
    beside = [entries_of(runner, greedy("Once upon a time", 24, logprobs=0)) for _ in range(2)]
    longer = greedy(TEXT, 4, logprobs=0, score_prompt=True, options={"ignore_eos": True})
    both = await asyncio.gather(*beside, entries_of(runner, longer), entries_of(runner, longer))
    for entries, done in both[2:]:
        assert_like(entries[: len(tokens)], tokens, expected)
        assert (len(entries), done.generated_tokens) == (len(tokens) + 4, 4)


async def test_the_end_is_scored_too(runner: Runner) -> None:
    """Who drops the last token, as evaluations do, drops the one that was generated."""
    ends = {2: 100.0}  # <|im_end|>
    entries, done = await entries_of(
        runner, greedy("A dog", 1, logprobs=0, score_prompt=True, options={"logit_bias": ends})
    )
    assert (done.reason, [entry.token_id for entry in entries][2:]) == ("stop", [2])


@pytest.mark.parametrize("architecture", ["gemma3", "mamba2"])
async def test_every_memory_is_scored(architecture: str, tmp_path: Path) -> None:
    """Windows slide and states roll on; a first token that the vocabulary adds is not told."""
    model = write_tiny_model(tmp_path / "model.gguf", architecture)
    tokens = [1, *((7 * n) % (VOCABULARY - 3) + 3 for n in range(40))]
    placement = wire.Placement(n_ctx=128, n_parallel=1, n_threads=1, flash_attention="off")
    runner = await started(model, tmp_path / "log", placement)
    try:
        request = wire.Generate(
            0, wire.Options(num_predict=0), tokens=tuple(tokens), logprobs=0, score_prompt=True
        )
        entries, _ = await entries_of(runner, request)
        assert_like(entries, tokens, reference(model, tokens))
        told, done = await entries_of(runner, greedy("ab", 0, logprobs=0, score_prompt=True))
    finally:
        await runner.close()
    assert done.prompt_tokens == len(told) + 1
    assert "".join(entry.token for entry in told) == "ab"
