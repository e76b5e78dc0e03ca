"""Which part of a prompt is in the KV cache already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BLOCK: Final = 64  # compared at once, in C


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    end = min(len(first), len(second))
    start = 0
    while start < end and first[start : start + _BLOCK] == second[start : start + _BLOCK]:
        start += _BLOCK
    while start < end and first[start] == second[start]:
        start += 1
    return min(start, end)


def reusable_prefix(cached: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens of `prompt` need no evaluation; its last one always does, for its logits."""
    return min(common_prefix(cached, prompt), len(prompt) - 1)
