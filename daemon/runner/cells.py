"""Which cells of the KV cache sequences share, and how many they take together. Pure.

A cell is told by who evaluated it (`origin`) and its position. A sequence that takes over another's
beginning points to the same cells, so it has spans of the same origin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

EXTRA_BITS: Final = 16  # of the number that stands for a position of an image


@dataclass(frozen=True, slots=True)
class Span:
    """Positions [start, end) that one origin evaluated."""

    origin: int
    start: int
    end: int


Spans: TypeAlias = tuple[Span, ...]


def between(spans: Spans, start: int, end: int) -> Spans:
    """The part of `spans` that lies in [start, end)."""
    clipped = (Span(one.origin, max(one.start, start), min(one.end, end)) for one in spans)
    return tuple(one for one in clipped if one.start < one.end)


def grown(spans: Spans, origin: int, end: int) -> Spans:
    """`spans` with all positions up to `end`, the new ones evaluated by `origin`."""
    start = spans[-1].end if spans else 0
    if spans and spans[-1].origin == origin:
        return (*spans[:-1], Span(origin, spans[-1].start, end))
    return (*spans, Span(origin, start, end)) if start < end else spans


def count(sequences: Iterable[Spans]) -> int:
    """How many cells they take together."""
    by_origin: defaultdict[int, list[Span]] = defaultdict(list)
    for spans in sequences:
        for span in spans:
            by_origin[span.origin].append(span)
    return sum(_union(spans) for spans in by_origin.values())


def beyond(tokens: Sequence[int]) -> int:
    """How many cells more than positions these tokens take; see `media`."""
    if min(tokens, default=0) >= 0:  # text, as nearly always
        return 0
    return sum((-1 - token) % (1 << EXTRA_BITS) for token in tokens if token < 0)


def shared(first: Spans, second: Spans) -> bool:
    """Whether any cell belongs to both."""
    return any(
        one.origin == other.origin and max(one.start, other.start) < min(one.end, other.end)
        for one in first
        for other in second
    )


def _union(spans: list[Span]) -> int:
    total = reached = 0
    for span in sorted(spans, key=lambda one: one.start):
        total += max(0, span.end - max(span.start, reached))
        reached = max(reached, span.end)
    return total
