"""bitsandbytes: 4 bits through a table of 16 numbers, or 8 bits with a scale for each row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod

import numpy as np

from .config import Config
from .errors import BadConfig, NotDequantizable
from .parts import Parts
from .shards import Stored
from .tensor import Array, Kind, Tensor

_STATE = ".quant_state.bitsandbytes__"
_INT8_MAX = 127.0


def dequantised(stored: Mapping[str, Stored], config: Config) -> dict[str, Tensor]:
    del config  # every weight says itself how it is stored
    parts = Parts(stored)
    for kind in ("nf4", "fp4"):
        for name in parts.bases(f"{_STATE}{kind}"):
            parts.replace(name, _four_bits(parts, name, kind))
    for base in parts.bases(".SCB"):
        parts.replace(f"{base}.weight", _eight_bits(parts, base))
    parts.drop(".weight_format")
    return parts.tensors()


def _four_bits(parts: Parts, name: str, kind: str) -> Tensor:
    state = _state(parts.take(f"{name}{_STATE}{kind}"))
    packed, table = parts.take(name), parts.take(f"{name}.quant_map")
    largest = parts.take(f"{name}.absmax")
    nested = parts.take_if_there(f"{name}.nested_absmax")
    nested_table = parts.take_if_there(f"{name}.nested_quant_map")
    shape = _shape(state)
    if prod(shape) > 2 * packed.size_bytes:
        raise NotDequantizable(f"{name}: {packed.size_bytes} bytes are too few for {shape}")
    block = state.count("blocksize")

    def scales() -> Array:
        if nested is None or nested_table is None:
            return largest.tensor().load_f32()
        wide = np.repeat(nested.tensor().load_f32(), state.count("nested_blocksize"))
        values = nested_table.tensor().load_f32()[largest.raw()]
        offset = np.float32(state.number("nested_offset"))
        found: Array = values * wide[: len(values)] + offset
        return found

    def load() -> Array:
        pairs = packed.raw().reshape(-1).view(np.uint8)  # whatever type they were stored as
        codes = np.stack([pairs >> 4, pairs & 15], axis=1).reshape(-1)[: prod(shape)]
        numbers = table.tensor().load_f32()[codes]
        wide = np.repeat(scales().reshape(-1), block)[: prod(shape)]
        found: Array = (numbers * wide).reshape(shape)
        return found

    return Tensor(shape, Kind.F32, (load,))


def _state(stored: Stored) -> Config:
    try:
        values = json.loads(stored.raw().tobytes())
    except ValueError as error:
        raise BadConfig(f"{stored.name} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadConfig(f"{stored.name} is not a JSON object")
    return Config(values, stored.name)


def _shape(state: Config) -> tuple[int, ...]:
    sizes = state.sequence("shape")
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        raise BadConfig(f"a quantised weight has the impossible shape {sizes}")
    return tuple(sizes)


def _eight_bits(parts: Parts, base: str) -> Tensor:
    scale, weight = parts.take(f"{base}.SCB"), parts.take(f"{base}.weight")

    def load() -> Array:
        rows = scale.tensor().load_f32().reshape(-1, 1)
        return weight.raw().astype(np.float32) * (rows / np.float32(_INT8_MAX))

    return Tensor(weight.shape, Kind.F32, (load,))
