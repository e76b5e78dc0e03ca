"""Tensors that llama.cpp insists on, for repositories that do well without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from .tensor import Tensor, of_array

_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"


@dataclass(frozen=True, slots=True)
class StandIns:
    """Of a family: whether its output must be there even if it is the embedding again, and the
    biases that every block must have, which are zero where the repository has none.
    """

    output: bool = False
    biases: tuple[str, ...] = ()

    def missing(
        self, made: Mapping[str, Tensor], blocks: int, *, tied: bool
    ) -> Iterator[tuple[str, Tensor]]:
        """What `made` lacks; the embedding is the output only where they are `tied`."""
        if self.output and tied and _OUTPUT not in made and _EMBEDDING in made:
            yield _OUTPUT, made[_EMBEDDING]
        for block in range(blocks):
            for bias in self.biases:
                name = f"blk.{block}.{bias}"
                weight = made.get(f"{name}.weight")
                if weight is not None and f"{name}.bias" not in made:
                    yield f"{name}.bias", of_array(np.zeros(weight.shape[0], np.float32))
