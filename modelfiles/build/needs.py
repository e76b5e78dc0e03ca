"""Whether a step has the room that it will need, found out before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from qm.store.durable import StoreFull
from qm.store.errors import QmError
from qm.store.gguf import Header
from qm.store.layout import Layout

from ..memory import read_memory

DISK_MARGIN_BYTES = 64 << 20
TENSOR_COPIES = 3  # of the largest tensor: as it is stored, as F32, as it is written
_FLOAT_BYTES = 4
_ACTIVATIONS = 16  # rows as wide as the embedding that a token's evaluation holds, at most


class NotEnoughMemory(QmError):
    """The machine has less memory free than a step needs."""

    status = 507
    code = "not_enough_memory"


def check_disk(layout: Layout, needed_bytes: int, what: str) -> None:
    """Raises StoreFull that says how much is missing."""
    check_room(layout.partial, needed_bytes, what)


def check_room(directory: Path, needed_bytes: int, what: str) -> None:
    """The same for the file system of any directory."""
    status = os.statvfs(directory)
    free_bytes = status.f_bavail * status.f_frsize
    wanted_bytes = needed_bytes + DISK_MARGIN_BYTES
    if free_bytes < wanted_bytes:
        raise StoreFull(
            f"no space left for {what}: {wanted_bytes} bytes are needed, {free_bytes} are free; "
            "free some with: qm rm, qm gc"
        )


def largest_bytes(headers: Iterable[Header]) -> int:
    """What the largest tensor takes as F32."""
    tensors = (tensor for header in headers for tensor in header.tensors)
    return _FLOAT_BYTES * max((tensor.items for tensor in tensors), default=0)


def running_bytes(headers: Sequence[Header], n_tokens: int) -> int:
    """What a model takes that reads so many tokens at once: its weights, activations, logits."""
    vocabulary = max(
        (
            tensor.shape[-1]
            for header in headers
            for tensor in header.tensors
            if tensor.name in ("token_embd.weight", "output.weight")
        ),
        default=0,
    )
    rows = vocabulary + _ACTIVATIONS * (headers[0].embedding_length or 0)
    return sum(header.weights_bytes for header in headers) + _FLOAT_BYTES * n_tokens * rows


def check_memory(needed_bytes: int, what: str) -> None:
    """Raises NotEnoughMemory."""
    available_bytes = read_memory().available_bytes
    if available_bytes < needed_bytes:
        raise NotEnoughMemory(
            f"not enough memory for {what}: {needed_bytes} bytes are needed, {available_bytes} are "
            "available; unload a model with: qm stop"
        )
