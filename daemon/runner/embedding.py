"""Embeddings: one pooled, normalised vector an input."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from . import wire
from .intake import EmbedWork
from .llama import Batch, Context, LlamaError, Model


def embed(work: EmbedWork, model: Model, context: Context, batch: Batch) -> wire.Embedded:
    """The answer to one `Embed`. Raises LlamaError."""
    if context.pooling in ("none", "unspecified", "rank"):
        raise LlamaError("unsupported", "this model does not support embeddings")
    dimensions = work.request.dimensions or model.n_embd
    if not 0 < dimensions <= model.n_embd:
        raise LlamaError("bad_option", f"dimensions must be from 1 to {model.n_embd}")
    vectors = [
        _packed(vector[:dimensions])
        for group in _groups(work.inputs, context)
        for vector in _evaluate(group, model, context, batch)
    ]
    return wire.Embedded(work.request.id, tuple(vectors), sum(map(len, work.inputs)))


def _groups(inputs: Sequence[list[int]], context: Context) -> list[list[list[int]]]:
    """Inputs in order, as many together as fit a batch and its sequences."""
    groups: list[list[list[int]]] = []
    room = 0
    for tokens in inputs:
        if not groups or len(tokens) > room or len(groups[-1]) == context.n_parallel:
            groups.append([])
            room = context.n_ubatch  # attention over whole inputs needs them in one piece
        groups[-1].append(tokens)
        room -= len(tokens)
    return groups


def _evaluate(
    group: list[list[int]], model: Model, context: Context, batch: Batch
) -> list[list[float]]:
    context.clear()
    batch.clear()
    for sequence, tokens in enumerate(group):
        batch.add_many(tokens, 0, sequence, output=True, every=True)
    status = context.decode(batch)
    if status:
        raise LlamaError("decode_failed", f"llama.cpp could not evaluate it (status {status})")
    return [context.pooled(sequence, model.n_embd) for sequence in range(len(group))]


def _packed(vector: list[float]) -> bytes:
    """Little-endian float32 of unit length; a vector of zeros stays one."""
    length = math.sqrt(math.fsum(value * value for value in vector)) or 1.0
    return struct.pack(f"<{len(vector)}f", *(value / length for value in vector))
