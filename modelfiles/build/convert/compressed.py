"""compressed-tensors: codes and scales by layers, which may be stored in different ways.

Which of the ways that config.json lists a weight is stored in shows in the shapes of its parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .config import Config
from .errors import NotDequantizable
from .float4 import from_four_bits
from .packed import unpack_dense, unpack_words
from .parts import Parts
from .scaled import ACTIVATIONS, block_sizes, scaled
from .shards import Stored
from .tensor import Array, Kind, Tensor

_FORMATS = {
    *("float-quantized", "int-quantized", "naive-quantized", "mxfp8-quantized"),
    *("pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized"),
}
_MIXED = "mixed-precision"
_WORD_BITS = 32


@dataclass(frozen=True, slots=True)
class _Way:
    """How some layers are stored: the width of a code, and how many numbers share a scale."""

    bits: int
    group: int  # 0 for whole rows or weights
    block: tuple[int, ...]


def dequantised(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    tables = config.table("config_groups")
    groups = [config.within("config_groups").within(name) for name in tables]
    formats = {config.text("format"), *(group.text("format") for group in groups)} - {"", _MIXED}
    for kind in formats - _FORMATS or ([] if formats or groups else ["?"]):
        raise NotDequantizable(f"compressed-tensors in the format {kind!r} is not supported")
    ways = [_way(group.within("weights")) for group in groups if group.table("weights")]
    parts = Parts(stored)
    parts.drop(*ACTIVATIONS)
    for base in parts.bases(".weight_packed"):
        parts.replace(f"{base}.weight", _unpacked(parts, base, ways))
    for base in parts.bases(".weight_scale"):
        parts.replace(f"{base}.weight", _whole(parts, base, ways))
    parts.drop(".weight_g_idx")
    return parts.tensors()


def _way(scheme: Config) -> _Way:
    group = max(scheme.whole_or_none("group_size") or 0, 0)
    return _Way(scheme.count("num_bits"), group, block_sizes(scheme, "block_structure"))


def _whole(parts: Parts, base: str, ways: list[_Way]) -> Tensor:
    """Each number has as many bits as a type of safetensors."""
    scale, weight = parts.take(f"{base}.weight_scale"), parts.take(f"{base}.weight")
    zero = parts.take_if_there(f"{base}.weight_zero_point")
    blocks = [way.block or (1, way.group) for way in ways if way.block or way.group]
    block = next((each for each in blocks if _counts(weight.shape, each) == scale.shape), ())
    return scaled(weight, scale, block, zero)


def _counts(shape: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != len(block):
        return ()
    return tuple(-(-size // each) for size, each in zip(shape, block, strict=True))


def _unpacked(parts: Parts, base: str, ways: list[_Way]) -> Tensor:
    packed, scale = parts.take(f"{base}.weight_packed"), parts.take(f"{base}.weight_scale")
    if packed.dtype != "I32":
        common = parts.take_if_there(f"{base}.weight_global_scale")
        return from_four_bits(base, packed, scale, common)
    said = parts.take(f"{base}.weight_shape").raw().reshape(-1)
    shape = tuple(said.tolist()) if said.dtype.kind == "i" else ()
    zero = parts.take_if_there(f"{base}.weight_zero_point")
    order = parts.take_if_there(f"{base}.weight_g_idx")
    way = next((way for way in ways if _fits(way, packed, scale, shape)), None)
    if way is None:
        raise NotDequantizable(f"{base}: its packed weights don't have the shape {shape}")
    rows, columns = shape

    def load() -> Array:
        index = np.arange(columns) // (way.group or columns) if order is None else order.raw()
        if len(index) != columns or index.min() < 0 or index.max() >= scale.shape[1]:
            raise NotDequantizable(f"{base}: its inputs belong to groups that are not there")
        values = _codes(packed.raw(), way.bits, columns)
        offset: Array | int = 1 << (way.bits - 1)
        if zero is not None:
            points = _codes(np.ascontiguousarray(zero.raw().T), way.bits, rows)
            offset = points.T[:, index]
        return (values - offset).astype(np.float32) * scale.tensor().load_f32()[:, index]

    return Tensor((rows, columns), Kind.F32, (load,))


def _fits(way: _Way, packed: Stored, scale: Stored, shape: tuple[int, ...]) -> bool:
    if len(shape) != 2 or min(shape) < 1 or way.bits > 8:
        return False
    rows, columns = shape
    widths = ((rows, _words(columns, way.bits)), (rows, -(-columns // (_WORD_BITS // way.bits))))
    groups = -(-columns // (way.group or columns))
    return packed.shape in widths and scale.shape == (rows, groups)


def _codes(words: Array, bits: int, count: int) -> Array:
    """Along the last axis: without gaps, or, as older versions did it, as many as fit whole."""
    dense = words.shape[-1] == _words(count, bits)
    values = unpack_dense(words, bits) if dense else unpack_words(words, bits)
    return values[:, :count].astype(np.int16)


def _words(count: int, bits: int) -> int:
    return -(-count * bits // _WORD_BITS)
