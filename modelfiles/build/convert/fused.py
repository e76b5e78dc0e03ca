"""Queries, keys and values that a repository stores in one matrix, head by head."""

from __future__ import annotations

import numpy as np

from .errors import BadTensor
from .tensor import Array, Tensor


def separated(name: str, tensor: Tensor, heads: int) -> Tensor:
    """All queries, then all keys, then all values; the repository has them head after head."""
    rows = tensor.shape[0]
    if rows % (3 * heads):
        raise BadTensor(f"{name!r} has {rows} rows, which {heads} heads can't share")
    rest = tensor.shape[1:]

    def change(array: Array) -> Array:
        return array.reshape(heads, 3, rows // heads // 3, *rest).swapaxes(0, 1)

    return tensor.moved(change)


def separated_groups(name: str, tensor: Tensor, heads: int, groups: int) -> Tensor:
    """The same where every group of heads shares one key and one value."""
    rows, each = tensor.shape[0], heads // groups + 2
    if heads % groups or rows % (groups * each):
        raise BadTensor(f"{name!r} has {rows} rows, which {groups} groups can't share")
    rest = tensor.shape[1:]

    def change(array: Array) -> Array:
        parts = array.reshape(groups, each, rows // groups // each, *rest)
        row = (-1, *rest)
        pieces = (parts[:, :-2], parts[:, -2], parts[:, -1])
        return np.concatenate([piece.reshape(row) for piece in pieces])

    return tensor.moved(change)
