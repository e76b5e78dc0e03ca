"""Experts come one tensor each; GGUF wants all experts of a block stacked into one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .errors import BadConfig, MissingWeights
from .tensor import Tensor, stacked

_EXPERT = re.compile(r"^(.*\.experts\.)(\d+)\.(\w+)\.weight$")
_MAX_EXPERTS = 4096


class Experts:
    """Gathers experts until a block has all of them."""

    def __init__(self, weights: Sequence[str]) -> None:
        self._weights = tuple(weights)
        self._waiting: dict[int, dict[tuple[str, int], Tensor]] = {}

    @staticmethod
    def matches(name: str) -> bool:
        return _EXPERT.match(name) is not None

    def add(
        self, name: str, tensor: Tensor, block: int, count: int
    ) -> Iterator[tuple[str, Tensor]]:
        """Once all `count` experts of the block are here: their stacks, by the weight's name."""
        if not 0 < count <= _MAX_EXPERTS:
            raise BadConfig(f"config.json: {count} experts are out of all proportion")
        match = _EXPERT.match(name)
        if match is None:
            raise BadConfig(f"{name!r} is no expert's weight")
        waiting = self._waiting.setdefault(block, {})
        waiting[match[3], int(match[2])] = tensor
        if len(waiting) < count * len(self._weights):
            return
        for weight in self._weights:
            missing = [n for n in range(count) if (weight, n) not in waiting]
            if missing:
                raise MissingWeights(f"block {block} lacks {weight} of expert {missing[0]}")
            yield weight, stacked([waiting[weight, number] for number in range(count)])
        del self._waiting[block]

    def check_complete(self) -> None:
        for block, waiting in self._waiting.items():
            raise MissingWeights(f"block {block} has only {len(waiting)} of its experts' weights")
