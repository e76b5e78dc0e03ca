"""Which models must go for another. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

One = TypeVar("One")
_MOST_COMBINED = 10  # of more the fewest are looked for one by one


def fewest(choice: Sequence[One], suffice: Callable[[Sequence[One]], bool]) -> list[One]:
    """The smallest part of `choice` that suffices, and the first of as many; all of it must."""
    if len(choice) <= _MOST_COMBINED:
        parts = (
            part
            for count in range(1, len(choice) + 1)
            for part in itertools.combinations(choice, count)
        )
        return list(next((part for part in parts if suffice(part)), choice))
    kept = list(choice)
    for one in reversed(choice):
        rest = [other for other in kept if other is not one]
        if suffice(rest):
            kept = rest
    return kept
