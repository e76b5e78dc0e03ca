"""What llama-cpp-python's own `Llama` class generates at temperature 0, token by token."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qm.daemon.runner import wire
from qm.daemon.runner.process import Runner

# How far a log probability may be from the reference's. Batches of another shape round otherwise,
# and quantised models make much of that; two tokens that are twice as near may change places.
ROUNDING: Final = 0.4


@dataclass(frozen=True, slots=True)
class Answer:
    """Tokens with their log probabilities; `margins` tells how far ahead of the next each was."""

    tokens: list[int]
    logprobs: list[float]
    margins: list[float]


_SCRIPT = """
import json, sys
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
import numpy as np
from llama_cpp import Llama
model, n_ctx = sys.argv[1], int(sys.argv[2])
llama = Llama(model, n_ctx=n_ctx, n_threads=1, n_threads_batch=1, verbose=False)
for line in sys.stdin:
    prompt, wanted = json.loads(line)
    llama.reset()
    tokens, logprobs, margins = [], [], []
    for token in llama.generate(prompt, temp=0.0):
        pointer = llama._ctx.get_logits_ith(-1)
        logits = np.ctypeslib.as_array(pointer, (llama.n_vocab(),)).astype(np.float64)
        first, second = np.sort(logits)[:-3:-1]
        tokens.append(int(token))
        logprobs.append(float(logits[token] - first - np.log(np.exp(logits - first).sum())))
        margins.append(float(first - second))
        if len(tokens) == wanted:
            break
    print(json.dumps([tokens, logprobs, margins]))
"""


def reference(
    model: Path, prompts: Sequence[Sequence[int]], n: int, n_ctx: int = 2048
) -> list[Answer]:
    """The first `n` tokens of the answer to each prompt, each evaluated from scratch."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(model), str(n_ctx)],
        input="\n".join(json.dumps([list(prompt), n]) for prompt in prompts),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    return [Answer(*json.loads(line)) for line in done.stdout.splitlines()[-len(prompts) :]]


async def answer(
    runner: Runner, prompt: Sequence[int], n: int, **more: object
) -> tuple[Answer, wire.Done]:
    """The same from a runner."""
    options = wire.Options(temperature=0.0, num_predict=n, ignore_eos=True)
    request = wire.Generate(0, options, tokens=tuple(prompt), logprobs=0, **more)  # type: ignore[arg-type]
    return await answered(runner, request)


async def answered(runner: Runner, request: wire.Generate) -> tuple[Answer, wire.Done]:
    """What a runner says to a request for log probabilities of its tokens."""
    entries, done = await entries_of(runner, request)
    return Answer([one.token_id for one in entries], [one.logprob for one in entries], []), done


async def entries_of(
    runner: Runner, request: wire.Generate
) -> tuple[list[wire.TokenLogprob], wire.Done]:
    """All log probabilities, in order."""
    entries: list[wire.TokenLogprob] = []
    async with aclosing(runner.generate(request)) as events:
        async for event in events:
            if isinstance(event, wire.Chunk):
                entries += event.logprobs
            elif isinstance(event, wire.Done):
                done = event
    return entries, done


def assert_same(
    ours: Answer, expected: Answer, what: str = "", *, rounding: float = ROUNDING
) -> None:
    """The same tokens with the same probabilities, up to the first near tie of the reference."""
    for at, token in enumerate(expected.tokens):
        if ours.tokens[at] != token:
            assert expected.margins[at] < 2 * rounding, f"{what}: token {at} differs"
            return
        difference = abs(ours.logprobs[at] - expected.logprobs[at])
        assert difference < rounding, f"{what}: token {at} is off by {difference}"
