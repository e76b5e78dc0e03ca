"""Numbers of 4 bits, two a byte, and the scales of their blocks, which are powers of two or FP8."""

from __future__ import annotations

import numpy as np

from .errors import NotDequantizable
from .parts import scales_of
from .shards import Stored
from .tensor import Array, Kind, Tensor

_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_NUMBERS = np.concatenate([_E2M1, -_E2M1])


def from_four_bits(base: str, packed: Stored, scale: Stored, common: Stored | None) -> Tensor:
    """The weight of such codes, the lower half of a byte first.

    Every scale is multiplied by the `common` one where that is called `…_2`, as ModelOpt does, and
    divided by it otherwise.
    """
    if len(packed.shape) != 2 or packed.dtype != "U8" or len(scale.shape) != 2:
        raise NotDequantizable(f"{base}: its weights of 4 bits are not stored as pairs in rows")
    rows, columns = packed.shape[0], 2 * packed.shape[1]
    if scale.shape[0] != rows or not scale.shape[1] or columns % scale.shape[1]:
        raise NotDequantizable(
            f"{base}: scales of {scale.shape} don't fit a weight of {rows, columns}"
        )

    def load() -> Array:
        pairs = packed.raw()
        numbers = _NUMBERS[np.stack([pairs & 15, pairs >> 4], axis=-1)]
        wide = numbers.reshape(rows, scale.shape[1], -1) * _scales(scale, common)[..., None]
        return wide.reshape(rows, columns)

    return Tensor((rows, columns), Kind.F32, (load,))


def _scales(scale: Stored, common: Stored | None) -> Array:
    scales = scales_of(scale)
    if common is None:
        return scales
    factor = common.tensor().load_f32().reshape(-1)[0]
    found: Array = scales * factor if common.name.endswith("_2") else scales / factor
    return found
