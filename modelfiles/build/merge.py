"""What is added to a model's weights while they are read: whole deltas, and LoRA adapters.

A delta is a checkpoint that is only the difference to another one, as makers publish it whose
licence forbids more. A LoRA adapter says its difference as a product of two thin matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from .convert.errors import ConversionError
from .convert.lora import Adapter, Pair, read_adapter
from .convert.shards import Stored
from .convert.source import stored_tensors
from .convert.tensor import Array, Kind, Tensor


class DeltaMismatch(ConversionError):
    """The delta or adapter was made for another model."""

    code = "delta_mismatch"


_GROWS = ("embed_tokens.weight", "lm_head.weight", "wte.weight", "word_embeddings.weight")


Read: TypeAlias = Callable[[Path], Mapping[str, Stored]]


def with_deltas(
    tensors: Mapping[str, Tensor], deltas: Sequence[Path], read: Read = stored_tensors
) -> dict[str, Tensor]:
    """Each tensor plus that of every delta; only the vocabulary may be larger there."""
    merged = dict(tensors)
    for path in deltas:
        stored = {name: entry.tensor() for name, entry in read(path).items()}
        ours, theirs = _weights(merged), _weights(stored)
        if unknown := sorted(theirs - ours):
            raise DeltaMismatch(f"{path.name} changes {unknown[0]!r}, which the base has not")
        if missing := sorted(ours - theirs):
            raise DeltaMismatch(f"{path.name} lacks {missing[0]!r}, so it is no delta to the base")
        for name in sorted(theirs):
            merged[name] = _sum(name, merged[name], stored[name])
    return merged


def with_adapters(tensors: Mapping[str, Tensor], adapters: Sequence[Path]) -> dict[str, Tensor]:
    """Each tensor plus what every LoRA adapter adds to it."""
    merged = dict(tensors)
    for path in adapters:
        adapter = read_adapter(path)
        for name in (*adapter.pairs, *adapter.whole):
            if name not in merged:
                raise DeltaMismatch(f"{path.name} changes {name!r}, which the base has not")
        for name, pair in adapter.pairs.items():
            merged[name] = _adapted(name, merged[name], pair, adapter)
        for name, tensor in adapter.whole.items():
            if tensor.shape[1:] != merged[name].shape[1:]:
                raise DeltaMismatch(f"{name!r} has another shape in {path.name} than in the base")
            merged[name] = tensor
    return merged


def _weights(tensors: Mapping[str, Tensor]) -> set[str]:
    """Names of what is learned; buffers may be missing or left behind."""
    return {name for name in tensors if not name.endswith(("inv_freq", "masked_bias"))}


def _sum(name: str, base: Tensor, delta: Tensor) -> Tensor:
    rows, more = base.shape[:1], delta.shape[:1]
    if base.shape[1:] != delta.shape[1:] or (rows != more and not name.endswith(_GROWS)):
        raise DeltaMismatch(f"{name!r} has the shape {delta.shape}, in the base {base.shape}")
    if more < rows:
        raise DeltaMismatch(f"{name!r} has {more[0]} rows, fewer than the base's {rows[0]}")

    def load() -> Array:
        total = delta.load_f32().copy()
        total[: base.shape[0]] += base.load_f32()
        return total

    return Tensor(delta.shape, Kind.F32, (load,))


def _adapted(name: str, base: Tensor, pair: Pair, adapter: Adapter) -> Tensor:
    turned = adapter.fan_in_fan_out and not pair.is_embedding
    shape = (pair.outputs, pair.inputs)
    if base.shape != (shape[::-1] if turned else shape):
        raise DeltaMismatch(f"{name!r} has the shape {base.shape}, the adapter is for {shape}")
    scale = np.float32(adapter.scale_of(name, pair.rank))

    def load() -> Array:
        product = pair.b.load_f32() @ pair.a.load_f32()
        return base.load_f32() + scale * (product.T if turned else product)

    return Tensor(base.shape, Kind.F32, (load,))
