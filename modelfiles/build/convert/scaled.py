"""Weights in 8 bits with scales beside them: FP8, and the formats of compressed-tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .config import Config
from .errors import BadConfig, NotDequantizable
from .packed import unpack_words
from .parts import Parts
from .shards import Stored
from .tensor import Array, Kind, Tensor

_ACTIVATIONS = (
    ".activation_scale",
    "_activation_scale",
    ".input_scale",
    ".k_scale",
    ".v_scale",
    ".output_scale",
)
_WHOLE_FORMATS = ("float-quantized", "int-quantized", "naive-quantized")


def fp8(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    """`weight_scale_inv` for blocks, as DeepSeek does it, or `weight_scale`."""
    parts = Parts(stored)
    parts.drop(*_ACTIVATIONS)
    block = [int(size) for size in config.sequence("weight_block_size")]
    for suffix in ("_scale_inv", "_scale"):
        for name in parts.bases(f".weight{suffix}"):
            scale, weight = parts.take(f"{name}.weight{suffix}"), parts.take(f"{name}.weight")
            parts.replace(f"{name}.weight", _scaled(weight, scale, block))
    return parts.tensors()


def modelopt(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    """FP8 as NVIDIA's ModelOpt stores it."""
    algorithm = config.text("quant_algo")
    if algorithm != "FP8":
        raise NotDequantizable(f"ModelOpt's {algorithm or '?'} is not supported, only FP8")
    return fp8(stored, config)


def compressed(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    groups = [group for group in config.table("config_groups").values() if isinstance(group, dict)]
    if len(groups) != 1:
        raise NotDequantizable("compressed-tensors with several groups of layers is not supported")
    scheme = Config(groups[0], "config.json: config_groups").within("weights")
    kind, parts = config.text("format"), Parts(stored)
    parts.drop(*_ACTIVATIONS)
    if kind in _WHOLE_FORMATS:
        _replace_whole(parts, scheme)
    elif kind == "pack-quantized":
        _replace_packed(parts, scheme)
    else:
        raise NotDequantizable(f"compressed-tensors in the format {kind!r} is not supported")
    return parts.tensors()


def _replace_whole(parts: Parts, scheme: Config) -> None:
    block = [int(size) for size in scheme.sequence("block_structure")]
    if scheme.find("group_size") is not None:
        block = [1, scheme.count("group_size")]
    parts.drop(".weight_g_idx")
    for base in parts.bases(".weight_scale"):
        scale, weight = parts.take(f"{base}.weight_scale"), parts.take(f"{base}.weight")
        zero = parts.take_if_there(f"{base}.weight_zero_point")
        parts.replace(f"{base}.weight", _scaled(weight, scale, block, zero))


def _replace_packed(parts: Parts, scheme: Config) -> None:
    bits = scheme.count("num_bits")
    size = scheme.whole_or_none("group_size") or 0
    for base in parts.bases(".weight_packed"):
        parts.replace(f"{base}.weight", _unpacked(parts, base, bits, size))


def _scaled(
    weight: Stored, scale: Stored, block: Sequence[int], zero: Stored | None = None
) -> Tensor:
    def load() -> Array:
        numbers = weight.tensor().load_f32()
        if zero is not None:
            numbers = numbers - _spread(zero.tensor().load_f32(), weight.shape, block)
        return numbers * _spread(scale.tensor().load_f32(), weight.shape, block)

    return Tensor(weight.shape, Kind.F32, (load,))


def _spread(scale: Array, shape: tuple[int, ...], block: Sequence[int]) -> Array:
    """A scale for each number: of its block, of its row, or of the whole weight."""
    if block and scale.ndim >= len(block):
        for axis, size in enumerate(block, scale.ndim - len(block)):
            scale = np.repeat(scale, size, axis)
        scale = scale[tuple(slice(0, size) for size in shape)]
    while scale.ndim < len(shape):
        scale = scale[..., None]
    try:
        return np.broadcast_to(scale, shape)
    except ValueError as error:
        raise BadConfig(f"scales of shape {scale.shape} don't fit a weight of {shape}") from error


def _unpacked(parts: Parts, base: str, bits: int, group: int) -> Tensor:
    packed, scale = parts.take(f"{base}.weight_packed"), parts.take(f"{base}.weight_scale")
    zero = parts.take_if_there(f"{base}.weight_zero_point")
    order = parts.take_if_there(f"{base}.weight_g_idx")
    rows, columns = (int(size) for size in parts.take(f"{base}.weight_shape").raw())
    if rows != packed.shape[0] or columns > packed.shape[1] * (32 // bits):
        raise NotDequantizable(f"{base}: its packed weights don't have the shape {rows, columns}")

    def load() -> Array:
        values = unpack_words(packed.raw(), bits)[:, :columns].astype(np.int16)
        size = group if group > 0 else columns
        index = np.arange(columns) // size if order is None else order.raw()
        offset: Array | int = 1 << (bits - 1)
        if zero is not None:
            points = unpack_words(np.ascontiguousarray(zero.raw().T), bits).T
            offset = points[:rows].astype(np.int16)[:, index]
        scales = scale.tensor().load_f32()
        return (values - offset).astype(np.float32) * scales[:, index]

    return Tensor((rows, columns), Kind.F32, (load,))
