"""What a model's logits say about a text, and how far they are from another model's.

Perplexity and divergence are counted as llama-perplexity counts them: natural logarithms, the
second half of each chunk, whatever the base gives less than e^-16 left out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_ROWS = 8  # at a time: a block stays in the processor's cache
_FLOOR = -16.0

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scores:
    """One number for each predicted token; those about the base are empty without one."""

    losses: Doubles
    divergences: Doubles
    same_top: int


def score(logits: Floats, targets: Integers, base: Floats | None = None) -> Scores:
    """Of each row's target. `base` are the other model's logits for the same rows."""
    losses = np.empty(len(targets))
    divergences = np.empty(len(targets) if base is not None else 0)
    same = np.zeros(len(targets), bool)

    def block(start: int) -> None:
        rows = slice(start, start + _ROWS)
        ours = _log_softmax(logits[rows])
        losses[rows] = -np.take_along_axis(ours, targets[rows, None], 1)[:, 0]
        if base is not None:
            theirs = _log_softmax(base[rows])
            divergences[rows] = _divergence(theirs, ours)
            same[rows] = ours.argmax(1) == theirs.argmax(1)

    _in_threads(block, range(0, len(targets), _ROWS))
    return Scores(losses, divergences, int(same.sum()))


def _log_softmax(logits: Floats) -> Floats:
    shifted: Floats = logits - logits.max(1, keepdims=True)
    total = np.exp(shifted).sum(1, keepdims=True, dtype=np.float64)
    shifted -= np.log(total).astype(np.float32)
    return shifted


def _divergence(base: Floats, ours: Floats) -> Doubles:
    """Kullback and Leibler's, from the base to ours."""
    terms = np.exp(base)
    terms *= base - ours
    terms[base <= _FLOOR] = 0
    return np.asarray(terms.sum(1, dtype=np.float64))


def _in_threads(work: Callable[[int], None], starts: range) -> None:
    """numpy lets go of the interpreter while it calculates."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(work, starts):
            pass


@dataclass(slots=True)
class Totals:
    """Adds scores up, chunk by chunk."""

    losses: list[Doubles] = field(default_factory=list)
    divergences: list[Doubles] = field(default_factory=list)
    same_top: int = 0

    def add(self, scores: Scores) -> None:
        self.losses.append(scores.losses)
        self.divergences.append(scores.divergences)
        self.same_top += scores.same_top

    def perplexity(self) -> tuple[float, float]:
        """And its standard error."""
        losses = np.concatenate(self.losses)
        mean = float(losses.mean())
        variance = float((losses**2).mean()) - mean * mean
        perplexity = math.exp(mean)
        return perplexity, perplexity * math.sqrt(max(variance, 0.0) / (len(losses) - 1))

    def divergence(self) -> tuple[float, float]:
        """Its mean and the value that 99 of 100 tokens stay below."""
        values = np.concatenate(self.divergences)
        return float(values.mean()), float(np.quantile(values.astype(np.float32), 0.99))

    def agreement(self) -> float:
        """How often both models' likeliest token is the same."""
        return self.same_top / sum(len(each) for each in self.divergences)
