"""Whether tokens get the same logits with guesses beside them as without: to the bit, here.

Kernels may add in another order when a batch has more tokens, and quantised activations make
something of the last bit: a near-tied token then falls otherwise. So before guesses are tried in
answers that somebody could ask for again, real tokens are evaluated both ways and compared: as many
at a time as there are answers, and all together. What kernels are used may also change with the
size of the cache, so that is done again as it grows. Without flash attention several tokens are
multiplied otherwise than one: that needs no trial.
"""

from __future__ import annotations

import time
from typing import Final, TypeAlias

from .llama import Batch, Context

_Key: TypeAlias = tuple[int, int, int]

_SMALLEST_CACHE: Final = 256  # cells; llama.cpp's step


class Exactness:
    """How many tokens a batch may have so that none of them notices, learnt by trying.

    It is compared with batches of `answers` tokens, which would be evaluated anyway.
    """

    def __init__(self, context: Context, batch: Batch) -> None:
        self._context = context
        self._batch = batch
        self._most: dict[_Key, int] = {}
        self._tried: dict[_Key, int] = {}
        self._peak = 0

    def most(self, answers: int, cells: int, n_tokens: int) -> int:
        """Tokens that a batch may have when the cache holds `cells`, as far as is known.

        Of a batch of `n_tokens` that would reach into another size of cache, no more than
        `answers`.
        """
        self._peak = max(self._peak, cells)
        same = _size(cells) == _size(cells + n_tokens)
        return self._most.get(self._key(answers, cells), answers) if same else answers

    def cleared(self) -> None:
        """Nothing is in the cache now."""
        self._peak = 0

    def unknown(self, answers: int, cells: int, n_tokens: int) -> bool:
        """Whether trying could show that a batch may have `n_tokens`."""
        if self._context.without_flash or _size(cells) != _size(cells + n_tokens):
            return False
        tried = self._tried.get(self._key(answers, cells), answers)
        return tried < n_tokens and self.most(answers, cells, n_tokens) == tried

    def find_out(
        self, answers: int, cells: int, slot: int, position: int, tokens: list[int]
    ) -> None:
        """Evaluates `tokens` in the slot both ways, and takes them back.

        At most twice as many as are known to go together: answers wait meanwhile, and where two
        differ more would, too.
        """
        key = self._key(answers, cells)
        known = self._most.get(key, answers)
        tokens = tokens[: 2 * known]
        apart = self._apart(slot, position, tokens, answers)
        size = len(tokens) if apart else known
        while size > known and self._together(slot, position, tokens[:size]) != apart[:size]:
            size = (size + known) // 2
        self._most[key], self._tried[key] = size, len(tokens)

    def time(self, slot: int, position: int, tokens: list[int]) -> float:
        """Seconds that `tokens` take together; they are taken back."""
        started = time.perf_counter()
        self._together(slot, position, tokens)
        return time.perf_counter() - started

    def _apart(self, slot: int, position: int, tokens: list[int], at_once: int) -> list[bytes]:
        """The logits of tokens in batches of so many; the last has some of the one before again."""
        rows: list[bytes] = []
        last = len(tokens) - at_once
        for start in (*range(0, last, at_once), last):
            self._context.remove(slot, position + start)
            more = self._rows(slot, position + start, tokens[start : start + at_once])
            rows = rows[:start] + more if more else []
            if not rows:
                break
        self._context.remove(slot, position)
        return rows

    def _together(self, slot: int, position: int, tokens: list[int]) -> list[bytes]:
        rows = self._rows(slot, position, tokens)
        self._context.remove(slot, position)
        return rows

    def _rows(self, slot: int, position: int, tokens: list[int]) -> list[bytes]:
        """The logits of tokens that are evaluated there; nothing when that fails."""
        self._batch.clear()
        indices = [
            self._batch.add_one(token, position + offset, slot)
            for offset, token in enumerate(tokens)
        ]
        failed = self._context.decode(self._batch)
        return [] if failed else [self._context.logits_bytes(index) for index in indices]

    def _key(self, answers: int, cells: int) -> _Key:
        return answers, _size(cells), _size(self._peak)


def _size(cells: int) -> int:
    """The cache that is looked through, up to a power of two."""
    return max(_SMALLEST_CACHE, 1 << max(cells - 1, 0).bit_length())
