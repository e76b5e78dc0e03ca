"""Numbers of a few bits, packed into words of 32."""

from __future__ import annotations

import numpy as np

from .errors import NotDequantizable
from .tensor import Array

_WORD_BITS = 32


def unpack_stream(words: Array, bits: int) -> Array:
    """The numbers along the first axis, where they run on from one word into the next."""
    period_words = bits if _WORD_BITS % bits else 1
    rows, columns = words.shape
    if rows % period_words:
        raise NotDequantizable(f"{rows} words don't hold a whole number of {bits}-bit weights")
    groups = words.view(np.uint32).reshape(rows // period_words, period_words, columns)
    count = period_words * _WORD_BITS // bits
    out = np.empty((len(groups), count, columns), np.uint8)
    for number in range(count):
        word, shift = divmod(number * bits, _WORD_BITS)
        value = groups[:, word] >> shift
        if shift + bits > _WORD_BITS:
            value = value | groups[:, word + 1] << (_WORD_BITS - shift)
        out[:, number] = value & ((1 << bits) - 1)
    return out.reshape(-1, columns)


def unpack_dense(words: Array, bits: int) -> Array:
    """The same along the last axis, whose end may be missing."""
    filled = np.pad(words, ((0, 0), (0, -words.shape[1] % bits)))
    return unpack_stream(np.ascontiguousarray(filled.T), bits).T


def unpack_words(words: Array, bits: int) -> Array:
    """The numbers along the last axis, where each word holds as many as fit whole."""
    if not 1 <= bits <= 8:
        raise NotDequantizable(f"weights of {bits} bits are not supported")
    shifts = np.arange(_WORD_BITS // bits, dtype=np.uint32) * bits
    values = words.view(np.uint32)[..., None] >> shifts & ((1 << bits) - 1)
    return values.astype(np.uint8).reshape(*words.shape[:-1], -1)
