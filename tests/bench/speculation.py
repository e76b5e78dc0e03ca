"""What guessing ahead gains: tokens a second with and without, on text that repeats and on prose.

    python -m tests.bench.speculation --runs 5

Every mode has a daemon of its own; they are asked in turns, and what counts is the median of the
ratios to the one that guesses nothing.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from typing import Final

from . import models
from .servers import Qm, qm

TOKENS: Final = 96
_CODE: Final = (
    "def area(width, height):\n    total = width * height\n    return total\n\n"
    "def rim(width, height):\n    total = 2 * (width + height)\n    return total\n\n"
)
TASKS: Final = {
    "code with one name changed": f"{_CODE}# with width renamed to size\n"
    f"{_CODE.replace('width', 'size')}# with width renamed to side\n",
    "prose": "The old harbour lay quiet in the morning, and the fishermen",
}
MODES: Final = ("off", "auto", "fast")
SAMPLING: Final = {"greedy": 0.0, "sampled": 0.3}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="rounds to measure")
    asked = parser.parse_args()
    weights = {"smollm2": models.smollm2(), "gemma3": models.gemma3()}
    print(f"{'':<10} {'':<28} {'':<8} {'off':>8} {'auto':>7} {'fast':>7}   tokens/s, then ratios")
    for name, path in weights.items():
        with ExitStack() as stack:
            settings = {"QM_CONTEXT_LENGTH": "2048", "QM_NUM_PARALLEL": "1"}
            servers = {
                mode: stack.enter_context(qm({name: path}, QM_SPECULATION=mode, **settings))
                for mode in MODES
            }
            for task, prompt in TASKS.items():
                for way, temperature in SAMPLING.items():
                    print(f"{name:<10} {task:<28} {way:<8}", end="", flush=True)
                    print(_figures(servers, prompt, temperature, asked.runs), flush=True)


def _figures(servers: dict[str, Qm], prompt: str, temperature: float, runs: int) -> str:
    """A run of each warms up: what a step takes is learnt then."""
    rounds = [
        {mode: _speed(server, prompt, temperature) for mode, server in servers.items()}
        for _ in range(runs + 1)
    ][1:]
    plain = statistics.median(one["off"] for one in rounds)
    ratios = [statistics.median(one[mode] / one["off"] for one in rounds) for mode in MODES[1:]]
    return f" {plain:>8.1f}" + "".join(f" {ratio:>7.2f}" for ratio in ratios)


def _speed(server: Qm, prompt: str, temperature: float) -> float:
    options = {"num_predict": TOKENS, "temperature": temperature, "ignore_eos": True}
    return 1 / server.answer(prompt, TOKENS, options=options).token_s


if __name__ == "__main__":
    main()
