"""Writing a GGUF file front to back: header, tensor table, then tensor after tensor."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .encode import encoded, not_finite
from .errors import BadTensor
from .pairs import Pairs
from .tensor import Kind, Tensor

_ALIGNMENT = 32
_VERSION = 3
_NUMBERS = {Kind.F32: 0, Kind.F16: 1, Kind.BF16: 30}
_MAX_NAME_BYTES = 63
_MAX_DIMENSIONS = 4

Progress = Callable[[int, int], None]
Laid = Callable[[int], None]
"""Called when header and table are written, with the size that the file will have."""


class Output(Protocol):
    """Where the bytes go: a binary file, or a blob that is being written."""

    def write(self, data: memoryview, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the file: its GGUF name, its numbers, and the kind that they become."""

    name: str
    tensor: Tensor
    kind: Kind

    @property
    def size_bytes(self) -> int:
        return self.tensor.items * self.kind.item_bytes


def write_gguf(
    out: Output,
    pairs: Pairs,
    entries: Sequence[Entry],
    on_progress: Progress | None,
    on_laid_out: Laid | None = None,
) -> int:
    """How many bytes were written; raises BadTensor for a NaN or an infinity among the numbers."""
    head = _head(pairs, entries)
    written = _write(out, head + _padding(len(head)))
    total = written + sum(_padded(entry.size_bytes) for entry in entries)
    if on_laid_out is not None:
        on_laid_out(total)
    for entry in entries:
        for chunk in _chunks(entry):
            written += _write(out, chunk)
            if on_progress is not None:
                on_progress(written, total)
        written += _write(out, _padding(entry.size_bytes))
    return written


def _write(out: Output, data: bytes | memoryview) -> int:
    view = memoryview(data)
    if view.nbytes:
        out.write(view)
    return view.nbytes


def _head(pairs: Pairs, entries: Sequence[Entry]) -> bytes:
    counts = struct.pack("<4sIQQ", b"GGUF", _VERSION, len(entries), len(pairs))
    return counts + pairs.packed() + _table(entries)


def _table(entries: Sequence[Entry]) -> bytes:
    table = bytearray()
    names: set[str] = set()
    offset = 0
    for entry in entries:
        name, shape = entry.name.encode(), entry.tensor.shape
        if entry.name in names:
            raise BadTensor(f"two tensors of the repository would both become {entry.name!r}")
        if len(name) > _MAX_NAME_BYTES or len(shape) > _MAX_DIMENSIONS or 0 in shape:
            raise BadTensor(f"{entry.name!r} with the shape {shape} does not fit a GGUF file")
        names.add(entry.name)
        table += struct.pack("<Q", len(name)) + name
        table += struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        table += struct.pack("<IQ", _NUMBERS[entry.kind], offset)
        offset += _padded(entry.size_bytes)
    return bytes(table)


def _chunks(entry: Entry) -> Iterator[memoryview]:
    written = 0
    for chunk in encoded(entry.tensor, entry.kind):
        if not_finite(chunk, entry.kind):
            raise BadTensor(
                f"the tensor {entry.name!r} holds a NaN or a number that {entry.kind} can't hold: "
                "the repository is damaged, or needs another type (bf16, f32)"
            )
        written += chunk.nbytes
        yield chunk.view(np.uint8).data
    if written != entry.size_bytes:
        raise BadTensor(f"{entry.name!r} has {written} bytes, planned were {entry.size_bytes}")


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)


def _padded(size: int) -> int:
    return size + -size % _ALIGNMENT
