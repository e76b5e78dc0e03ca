"""Tensors that are read when they are needed, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import BadTensor

Array: TypeAlias = npt.NDArray[Any]  # Any: any type of numbers
Load: TypeAlias = Callable[[], Array]


class Kind(StrEnum):
    """How the numbers are stored; BF16 is held in numpy's uint16."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"

    @property
    def item_bytes(self) -> int:
        return 4 if self is Kind.F32 else 2

    @property
    def dtype(self) -> type[np.generic]:
        return _DTYPES[self]


_DTYPES: dict[Kind, type[np.generic]] = {
    Kind.F32: np.float32,
    Kind.F16: np.float16,
    Kind.BF16: np.uint16,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A shape, a kind, and functions that read its parts, which lie behind each other."""

    shape: tuple[int, ...]
    kind: Kind
    parts: tuple[Load, ...]

    @property
    def items(self) -> int:
        return prod(self.shape)

    def load(self) -> Array:
        """All numbers at once."""
        if len(self.parts) == 1:
            return self.parts[0]()
        return np.concatenate([part().reshape(-1) for part in self.parts]).reshape(self.shape)

    def load_f32(self) -> Array:
        return to_f32(self.load(), self.kind)

    def pieces(self) -> Iterator[Array]:
        """Part by part, so that only one need be in memory."""
        return (part() for part in self.parts)

    def moved(self, change: Callable[[Array], Array], shape: Sequence[int] | None = None) -> Tensor:
        """The tensor after `change`, which moves numbers about but calculates nothing."""
        new_shape = self.shape if shape is None else tuple(shape)
        return Tensor(new_shape, self.kind, (lambda: change(self.load()).reshape(new_shape),))

    def calculated(
        self, change: Callable[[Array], Array], shape: Sequence[int] | None = None
    ) -> Tensor:
        """The tensor after `change`, which gets and gives float32."""
        new_shape = self.shape if shape is None else tuple(shape)
        return Tensor(new_shape, Kind.F32, (lambda: change(self.load_f32()).reshape(new_shape),))

    def transposed(self) -> Tensor:
        """The last two dimensions exchanged."""
        return self.moved(
            lambda array: array.swapaxes(-1, -2), (*self.shape[:-2], self.shape[-1], self.shape[-2])
        )

    def reshaped(self, *shape: int) -> Tensor:
        if prod(shape) != self.items:
            raise BadTensor(f"{self.items} numbers don't fill the shape {shape}")
        return Tensor(tuple(shape), self.kind, self.parts)

    def rows(self, start: int, end: int) -> Tensor:
        """Slices `start` up to `end` of the first dimension."""
        if not 0 <= start <= end <= self.shape[0]:
            raise BadTensor(f"there are no rows {start} to {end} in a tensor of shape {self.shape}")
        return self.moved(lambda array: array[start:end], (end - start, *self.shape[1:]))

    def split(self, *sizes: int) -> tuple[Tensor, ...]:
        """The first dimension cut into slices of these sizes."""
        if sum(sizes) != self.shape[0]:
            raise BadTensor(f"a tensor of shape {self.shape} can't be cut into {sizes}")
        ends = np.cumsum(sizes).tolist()
        return tuple(self.rows(end - size, end) for size, end in zip(sizes, ends, strict=True))


def of_array(array: Array) -> Tensor:
    """A tensor that is in memory already; anything but float32 and float16 becomes float32."""
    kind = Kind.F16 if array.dtype == np.float16 else Kind.F32
    kept = array.astype(kind.dtype, copy=False)
    return Tensor(array.shape, kind, (lambda: kept,))


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape along a new first dimension."""
    return _joined(tensors, (len(tensors), *tensors[0].shape))


def concatenated(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors along their first dimension."""
    return _joined(tensors, (sum(each.shape[0] for each in tensors), *tensors[0].shape[1:]))


def _joined(tensors: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    first = tensors[0]
    for each in tensors:
        if each.shape[1:] != first.shape[1:]:
            raise BadTensor(f"tensors of shapes {first.shape} and {each.shape} don't fit together")
    if any(each.kind is not first.kind for each in tensors):
        tensors = [each.calculated(lambda array: array) for each in tensors]
    if prod(shape) != sum(each.items for each in tensors):
        raise BadTensor(f"tensors like {first.shape} differ in size")
    return Tensor(shape, tensors[0].kind, tuple(part for each in tensors for part in each.parts))


def to_f32(array: Array, kind: Kind) -> Array:
    if kind is Kind.BF16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)
