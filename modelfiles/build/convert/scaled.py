"""Weights in 8 bits with scales beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .config import Config
from .errors import BadConfig, NotDequantizable
from .float4 import from_four_bits
from .parts import Parts, scales_of
from .shards import Stored
from .tensor import Array, Kind, Tensor

ACTIVATIONS = (
    ".activation_scale",
    "_activation_scale",
    ".input_scale",
    ".input_global_scale",
    ".k_scale",
    ".v_scale",
    ".output_scale",
)
_MODELOPT = ("FP8", "NVFP4", "MIXED_PRECISION")


def fp8(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    """`weight_scale_inv` for blocks, as DeepSeek does it, or `weight_scale`."""
    return _fp8(Parts(stored), config)


def _fp8(parts: Parts, config: Config) -> dict[str, Tensor]:
    parts.drop(*ACTIVATIONS)
    block = block_sizes(config, "weight_block_size")
    for suffix in ("_scale_inv", "_scale"):
        for name in parts.bases(f".weight{suffix}"):
            scale, weight = parts.take(f"{name}.weight{suffix}"), parts.take(f"{name}.weight")
            parts.replace(f"{name}.weight", scaled(weight, scale, block))
    return parts.tensors()


def modelopt(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    """FP8 as NVIDIA's ModelOpt stores it, and NVFP4, where a weight is stored in pairs."""
    algorithm = config.text("quant_algo")
    if algorithm not in _MODELOPT:
        known = ", ".join(_MODELOPT)
        raise NotDequantizable(f"ModelOpt's {algorithm or '?'} is not supported, only {known}")
    parts = Parts(stored)
    for base in parts.bases(".weight_scale_2"):
        common = parts.take(f"{base}.weight_scale_2")
        packed, scale = parts.take(f"{base}.weight"), parts.take(f"{base}.weight_scale")
        parts.replace(f"{base}.weight", from_four_bits(base, packed, scale, common))
    return _fp8(parts, config)


def block_sizes(config: Config, name: str) -> tuple[int, ...]:
    """How many numbers share a scale, by dimension."""
    sizes = config.sequence(name)
    if not all(type(size) is int and 0 < size < 1 << 31 for size in sizes):
        raise BadConfig(f"config.json: {name} is {sizes!r}, want sizes")
    return tuple(sizes)


def scaled(
    weight: Stored, scale: Stored, block: Sequence[int], zero: Stored | None = None
) -> Tensor:
    def load() -> Array:
        numbers = weight.tensor().load_f32()
        if zero is not None:
            numbers = numbers - _spread(zero.tensor().load_f32(), weight.shape, block)
        return numbers * _spread(scales_of(scale), weight.shape, block)

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
