"""AWQ in its GEMM layout: eight outputs a word, in an order that suits GPUs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .config import Config
from .errors import NotDequantizable
from .packed import unpack_words
from .parts import Parts
from .shards import Stored
from .tensor import Array, Kind, Tensor

_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]  # where in its word each of eight outputs lies
_BITS = 4


def dequantised(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    version = (config.text("version") or "gemm").lower()
    if version != "gemm":
        raise NotDequantizable(f"AWQ in the layout {version} is not supported, only gemm")
    bits = config.whole_or_none("bits", "w_bit") or _BITS
    if bits != _BITS:
        raise NotDequantizable(f"AWQ of {bits} bits is not supported, only {_BITS}")
    parts = Parts(stored)
    for base in parts.bases(".qweight"):
        parts.replace(f"{base}.weight", _weight(parts, base))
    return parts.tensors()


def _weight(parts: Parts, base: str) -> Tensor:
    packed, zeros = parts.take_matrix(f"{base}.qweight"), parts.take_matrix(f"{base}.qzeros")
    scales = parts.take_matrix(f"{base}.scales")
    inputs, outputs = packed.shape[0], packed.shape[1] * 8
    if scales.shape[1] != outputs or inputs % scales.shape[0]:
        raise NotDequantizable(f"{base}: scales of the shape {scales.shape} don't fit its weights")

    def load() -> Array:
        size = inputs // scales.shape[0]
        values = _ordered(packed.raw()).astype(np.int16).reshape(-1, size, outputs)
        differences = values - _ordered(zeros.raw()).astype(np.int16)[:, None]
        numbers = differences.astype(np.float32) * scales.tensor().load_f32()[:, None]
        return np.ascontiguousarray(numbers.reshape(inputs, outputs).T)

    return Tensor((outputs, inputs), Kind.F32, (load,))


def _ordered(words: Array) -> Array:
    values = unpack_words(words, _BITS)
    return values.reshape(len(values), -1, 8)[:, :, _ORDER].reshape(len(values), -1)
