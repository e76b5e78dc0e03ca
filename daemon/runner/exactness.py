"""Whether tokens get the same logits together as one by one: to the bit, on this machine.

Kernels may add in another order when a batch has more tokens, and quantised activations make
something of the last bit: a near-tied token then falls otherwise. So before guesses are tried in
an answer that somebody could ask for again, a real one is evaluated both ways and compared. What
kernels are used may also change with the size of the cache, so that is done again as it grows.
Without flash attention several tokens are multiplied otherwise than one: that needs no trial.
"""

from __future__ import annotations

import time
from typing import Final

from .llama import Batch, Context

_SMALLEST_CACHE: Final = 256  # cells; llama.cpp's step


class Exactness:
    """How many tokens of one batch are evaluated as they would be alone, learnt by trying."""

    def __init__(self, context: Context, batch: Batch) -> None:
        self._context = context
        self._batch = batch
        self._most: dict[int, int] = {}  # by size of the cache
        self._tried: dict[int, int] = {}

    def most(self, cells: int, n_tokens: int) -> int:
        """Tokens that a batch may have when the cache holds `cells`, as far as is known.

        Of a batch of `n_tokens` that would reach into another size of cache, one.
        """
        same = _size(cells) == _size(cells + n_tokens)
        return self._most.get(_size(cells), 1) if same else 1

    def unknown(self, cells: int, n_tokens: int) -> bool:
        """Whether trying could show that a batch may have `n_tokens`."""
        if self._context.without_flash or _size(cells) != _size(cells + n_tokens):
            return False
        tried = self._tried.get(_size(cells), 1)
        return tried < n_tokens and self.most(cells, n_tokens) == tried

    def find_out(self, cells: int, slot: int, position: int, tokens: list[int]) -> None:
        """Evaluates `tokens` in the slot both ways, and takes them back.

        At most twice as many as are known to go together: answers wait meanwhile, and where two
        differ more would, too.
        """
        known = self._most.get(_size(cells), 1)
        tokens = tokens[: 2 * known]
        alone = self._alone(slot, position, tokens)
        size = len(tokens) if alone else known
        while size > known and self._together(slot, position, tokens[:size]) != alone[:size]:
            size = (size + known) // 2
        self._most[_size(cells)], self._tried[_size(cells)] = size, len(tokens)

    def time(self, slot: int, position: int, tokens: list[int]) -> float:
        """Seconds that `tokens` take together; they are taken back."""
        started = time.perf_counter()
        self._together(slot, position, tokens)
        return time.perf_counter() - started

    def _alone(self, slot: int, position: int, tokens: list[int]) -> list[bytes]:
        rows: list[bytes] = []
        for offset, token in enumerate(tokens):
            self._batch.clear()
            index = self._batch.add_one(token, position + offset, slot)
            if self._context.decode(self._batch):
                rows.clear()
                break
            rows.append(self._context.logits_bytes(index))
        self._context.remove(slot, position)
        return rows

    def _together(self, slot: int, position: int, tokens: list[int]) -> list[bytes]:
        self._batch.clear()
        indices = [
            self._batch.add_one(token, position + offset, slot)
            for offset, token in enumerate(tokens)
        ]
        failed = self._context.decode(self._batch)
        rows = [] if failed else [self._context.logits_bytes(index) for index in indices]
        self._context.remove(slot, position)
        return rows


def _size(cells: int) -> int:
    """The cache that is looked through, up to a power of two."""
    return max(_SMALLEST_CACHE, 1 << max(cells - 1, 0).bit_length())
