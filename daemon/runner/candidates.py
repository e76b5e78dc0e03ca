"""The tokens that a sampler chain may choose from, laid out as llama.cpp wants them."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

from .llama import Context

if TYPE_CHECKING:
    from llguidance import LLMatcher

_MASK_BITS: Final = 32  # masks are whole words


class Candidates:
    """Room for one choice among a vocabulary: `llama_token_data` that a sampler chain reads."""

    def __init__(self, size: int) -> None:
        import numpy as np  # noqa: PLC0415  # 20 MB that a runner without constraints does without

        self._np = np
        self._size = size
        self._ids = np.arange(size, dtype=np.int32)
        self._rows = np.zeros(size, dtype=[("id", "i4"), ("logit", "f4"), ("p", "f4")])
        self._mask = np.zeros(-(-size // _MASK_BITS), dtype=np.uint32)
        self._address = int(self._rows.ctypes.data)

    def all(self, context: Context, index: int) -> tuple[int, int]:
        """Every token, with its logit: where the candidates are, and how many."""
        self._rows["id"] = self._ids
        self._rows["logit"] = self._logits(context, index)
        return self._address, self._size

    def allowed(self, context: Context, index: int, matcher: LLMatcher) -> tuple[int, int]:
        """The tokens that `matcher` allows next: where the candidates are, and how many."""
        matcher.unsafe_compute_mask_ptr(int(self._mask.ctypes.data), self._mask.nbytes)
        bits = self._np.unpackbits(self._mask.view("u1"), count=self._size, bitorder="little")
        (tokens,) = bits.nonzero()
        count = len(tokens)
        self._rows["id"][:count] = tokens
        self._rows["logit"][:count] = self._logits(context, index)[tokens]
        return self._address, count

    def _logits(self, context: Context, index: int) -> Any:  # Any: numpy is imported late
        address = ctypes.cast(context.logits(index), ctypes.c_void_p).value
        assert address is not None
        logits: Any = (ctypes.c_float * self._size).from_address(address)
        return self._np.frombuffer(logits, dtype=self._np.float32)
