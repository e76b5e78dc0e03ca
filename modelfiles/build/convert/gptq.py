"""GPTQ: groups of inputs share a scale and a zero point; inputs may be in any order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .config import Config
from .errors import NotDequantizable
from .packed import unpack_stream
from .parts import Parts
from .shards import Stored
from .tensor import Array, Kind, Tensor

_WIDTHS = (2, 3, 4, 8)


def dequantised(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    if config.find("dynamic"):
        raise NotDequantizable("GPTQ with other settings for some layers is not supported")
    if config.text("checkpoint_format") not in ("", "gptq", "gptq_v2"):
        raise NotDequantizable(f"GPTQ stored as {config.text('checkpoint_format')} is unknown")
    bits, parts = config.count("bits"), Parts(stored)
    if bits not in _WIDTHS:
        raise NotDequantizable(f"GPTQ of {bits} bits is not supported, only {_WIDTHS}")
    group = config.whole_or_none("group_size") or -1
    zero_offset = 0 if config.text("checkpoint_format") == "gptq_v2" else 1
    for base in parts.bases(".qweight"):
        weight = _weight(parts, base, bits, group, zero_offset)
        parts.replace(f"{base}.weight", weight)
    return parts.tensors()


def _weight(parts: Parts, base: str, bits: int, group: int, zero_offset: int) -> Tensor:
    packed, zeros = parts.take_matrix(f"{base}.qweight"), parts.take_matrix(f"{base}.qzeros")
    scales, order = parts.take_matrix(f"{base}.scales"), parts.take_if_there(f"{base}.g_idx")
    inputs, outputs = packed.shape[0] * 32 // bits, packed.shape[1]

    def load() -> Array:
        groups = scales.shape[0]
        size = group if group > 0 else inputs
        index = order.raw() if order is not None else np.arange(inputs) // size
        if len(index) != inputs or index.min() < 0 or index.max() >= groups:
            raise NotDequantizable(f"{base}: its inputs belong to groups that are not there")
        values = unpack_stream(packed.raw(), bits).astype(np.int16)
        zero_points = unpack_stream(np.ascontiguousarray(zeros.raw().T), bits).T.astype(np.int16)
        differences = values - (zero_points[:, :outputs] + zero_offset)[index]
        numbers = scales.tensor().load_f32()[index] * differences.astype(np.float32)
        return np.ascontiguousarray(numbers.T)

    return Tensor((outputs, inputs), Kind.F32, (load,))
