"""Numbers of one kind as another, exactly as llama.cpp's own tools round them.

From 16 bits to 16 bits it takes one look into a table for each number, which is many times faster
than calculating.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from .tensor import Array, Kind, Tensor, to_f32

_CHUNK_ITEMS = 1 << 22
_INFINITE = {Kind.F32: 0x7F800000, Kind.F16: 0x7C00, Kind.BF16: 0x7F80}


def encoded(tensor: Tensor, target: Kind) -> Iterator[Array]:
    """The tensor's numbers as `target`, in chunks of a few megabytes."""
    for part in tensor.pieces():
        flat = np.ascontiguousarray(part).reshape(-1)
        for start in range(0, flat.size, _CHUNK_ITEMS):
            yield convert_kind(flat[start : start + _CHUNK_ITEMS], tensor.kind, target)


def convert_kind(array: Array, source: Kind, target: Kind) -> Array:
    """`array` of kind `source` as `target`."""
    if source is target:
        return array
    if source.item_bytes == target.item_bytes:
        return np.take(_table(source, target), array.view(np.uint16))
    return _calculated(array, source, target)


def not_finite(array: Array, kind: Kind) -> bool:
    """Whether a NaN or an infinity is among the numbers.

    Their bits are the highest, read as signed for the positive ones and as unsigned for the others.
    """
    if array.size == 0:
        return False
    signed, unsigned = (np.int32, np.uint32) if kind is Kind.F32 else (np.int16, np.uint16)
    infinite = _INFINITE[kind]
    highest_negative = int(array.view(unsigned).max()) - np.iinfo(signed).max - 1
    return int(array.view(signed).max()) >= infinite or highest_negative >= infinite


@cache
def _table(source: Kind, target: Kind) -> Array:
    every = np.arange(1 << 16, dtype=np.uint16)
    values = every if source is Kind.BF16 else every.view(np.float16)
    return _calculated(values, source, target)


def _calculated(array: Array, source: Kind, target: Kind) -> Array:
    numbers = to_f32(array, source)
    if target is Kind.F32:
        return numbers
    if target is Kind.BF16:
        return _to_bf16(numbers)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return numbers.astype(np.float16)


def _to_bf16(numbers: Array) -> Array:
    """Round to nearest, ties to even; NaNs stay NaNs (and quiet)."""
    bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, (bits >> 16) | 64, rounded).astype(np.uint16)
