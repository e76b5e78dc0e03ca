"""How many numbers a model has, told apart as model names do: `8x7B`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters of the whole model, of what all tokens use, of one expert; and the experts."""

    total: int
    shared: int = 0
    of_an_expert: int = 0
    experts: int = 0


def count_parameters(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> Counts:
    """The counts of a model whose tensors have these GGUF names and shapes."""
    total = shared = of_an_expert = 0
    experts: list[int] = []
    for name, shape in tensors:
        size = prod(shape)
        total += size
        if "_exps." in name and len(shape) >= 3:
            count = shape[-2 if ".bias" in name else -3]
            of_an_expert += size // count
            experts.append(count)
        else:
            shared += size
    return Counts(total, shared, of_an_expert, sum(experts) // len(experts) if experts else 0)
