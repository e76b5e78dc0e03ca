"""Which guesses are worth a try: what a step of so many tokens takes, and what it yields. Pure.

A batch of five tokens costs more than one, on a CPU three times as much; so guesses pay only where
most of them are right. What a step takes is learnt from the steps themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

HOPE: Final = 0.3  # what one more token may cost, of a step with one, before it was measured
LESS_THAN_LAST: Final = 0.8  # what one more may cost, of what the last ones did
WORTH: Final = 1.05  # so much faster it must promise to be
PATIENCE: Final = 1.25  # so much longer a step may take for those who have no guess in it
FORGOTTEN_STEPS: Final = 100  # what was measured so long ago counts no more: speeds drift
_SMOOTHING: Final = 0.3


@dataclass(slots=True)
class StepCosts:
    """Seconds of a step by how many tokens it evaluates, where none belongs to a prompt."""

    _known: dict[int, tuple[float, int]] = field(default_factory=dict)
    _steps: int = 0
    _lately: tuple[list[int], list[float]] | None = None  # sizes, the smallest first; seconds

    def learn(self, n_tokens: int, seconds: float) -> None:
        self._steps += 1
        before, step = self._known.get(n_tokens, (0.0, -FORGOTTEN_STEPS))
        if self._is_recent(step):
            seconds = before + _SMOOTHING * (seconds - before)
        self._known[n_tokens] = (seconds, self._steps)
        self._lately = None

    def knows(self, n_tokens: int) -> bool:
        """Whether that was measured lately."""
        return n_tokens in self._measured()[0]

    def of(self, n_tokens: int) -> float:
        """What a step takes; a hopeful guess for a size that was not measured lately."""
        sizes, seconds = self._measured()
        known = bisect_right(sizes, n_tokens)
        if not known:
            return 0.0
        near, near_s = sizes[known - 1], seconds[known - 1]
        if near == n_tokens:
            return near_s
        one_more_s = HOPE * seconds[0] / sizes[0]
        if known > 1:
            one_more_s = LESS_THAN_LAST * max(near_s - seconds[0], 0.0) / (near - sizes[0])
        return near_s + one_more_s * (n_tokens - near)

    def _measured(self) -> tuple[list[int], list[float]]:
        """The sizes that were measured lately; many are asked for between two steps."""
        if self._lately is None:
            known = self._known.items()
            sizes = sorted(size for size, (_, step) in known if self._is_recent(step))
            self._lately = sizes, [self._known[size][0] for size in sizes]
        return self._lately

    def _is_recent(self, step: int) -> bool:
        return self._steps - step < FORGOTTEN_STEPS


def allot(
    trusts: Sequence[float],
    most: Sequence[int],
    n_tokens: int,
    costs: StepCosts,
    *,
    guess_s: float = 0.0,
) -> list[int]:
    """How many guesses each of several answers should try in a step that evaluates `n_tokens`
    anyway, given how likely a guess of each is right, and how many it may have `most`.

    A guess takes `guess_s` to make. Answers without a guess aren't kept waiting for others' long.
    """
    alone_s = costs.of(n_tokens)
    if alone_s <= 0:
        return [0] * len(trusts)
    counts = _within(trusts, most, n_tokens, costs, guess_s=guess_s)
    limit_s = PATIENCE * alone_s
    waiting = n_tokens > len(trusts) or not all(counts)
    if waiting and n_tokens > 1 and costs.of(n_tokens + sum(counts)) > limit_s:
        return _within(trusts, most, n_tokens, costs, guess_s=guess_s, limit_s=limit_s)
    return counts


def _within(
    trusts: Sequence[float],
    most: Sequence[int],
    n_tokens: int,
    costs: StepCosts,
    *,
    guess_s: float,
    limit_s: float = inf,
) -> list[int]:
    """The same in a step that takes at most `limit_s`; the likeliest guesses come first."""
    counts = [0] * len(trusts)
    expected, total = float(n_tokens), n_tokens
    best = WORTH * expected / costs.of(n_tokens)
    for index in sorted(range(len(trusts)), key=lambda one: -trusts[one]):
        chance, gain, gained = 1.0, 0.0, 0.0
        for count in range(1, most[index] + 1):
            step_s = costs.of(total + count)
            if step_s > limit_s:
                break
            chance *= trusts[index]
            gain += chance
            rate = (expected + gain) / (step_s + guess_s * (total - n_tokens + count))
            if rate > best:
                best, counts[index], gained = rate, count, gain
        expected, total = expected + gained, total + counts[index]
    return counts
