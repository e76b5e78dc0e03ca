"""Safetensors files: their headers read with bounds, their tensors mapped into memory.

Layout (huggingface.co/docs/safetensors): the header's length in 8 bytes, the header as JSON (name →
dtype, shape, first and last byte), then the data.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BadTensor, Truncated
from .float8 import decode_e4m3, decode_e5m2, decode_e8m0
from .tensor import Array, Kind, Tensor

_MAX_HEADER_BYTES = 100 << 20  # the limit of the format's own library
_MAX_DIMENSIONS = 8
_PAGE = mmap.ALLOCATIONGRANULARITY
_PLAIN: dict[str, Any] = {  # Any: numpy's types of number
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "U64": np.uint64,
    "I32": np.int32,
    "U32": np.uint32,
    "I16": np.int16,
    "U16": np.uint16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
    "F8_E8M0": np.uint8,
}
_DECODED: dict[str, Callable[[Array], Array]] = {
    "F8_E4M3": decode_e4m3,
    "F8_E5M2": decode_e5m2,
    "F8_E8M0": decode_e8m0,
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor as it lies in a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size_bytes: int

    def raw(self) -> Array:
        """The stored numbers; BF16 as uint16 and FP8 as uint8."""
        if self.size_bytes == 0:
            return np.empty(self.shape, _PLAIN[self.dtype])
        start = self.offset // _PAGE * _PAGE
        with self.path.open("rb") as file:
            mapped = mmap.mmap(
                file.fileno(),
                self.offset - start + self.size_bytes,
                offset=start,
                access=mmap.ACCESS_READ,
            )
        array = np.frombuffer(mapped, np.uint8, self.size_bytes, self.offset - start)
        dtype = np.dtype(_PLAIN[self.dtype])
        if array.ctypes.data % dtype.alignment:
            array = array.copy()
        numbers: Array = array.view(dtype).reshape(self.shape)
        return numbers

    def tensor(self) -> Tensor:
        """As a tensor of one of the three kinds."""
        if self.dtype in ("F32", "F16", "BF16"):
            return Tensor(self.shape, Kind(self.dtype), (self.raw,))
        decode = _DECODED.get(self.dtype)
        if decode is not None:
            return Tensor(self.shape, Kind.F32, (lambda: decode(self.raw()),))
        return Tensor(self.shape, Kind.F32, (lambda: self.raw().astype(np.float32),))


def read_shard(path: Path) -> list[Stored]:
    """All tensors of the file, sorted by name."""
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_MAX_HEADER_BYTES, file_bytes - 8):
            raise Truncated(
                f"{path.name} announces a header of {length} bytes, the file has {file_bytes}: "
                "it is cut short or no safetensors file"
            )
        header = _header(path, file.read(length))
    start = 8 + length
    entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    stored = [_stored(path, name, entry, start, file_bytes) for name, entry in sorted(entries)]
    _refuse_overlaps(path, stored)
    return stored


def _header(path: Path, data: bytes) -> dict[str, Any]:  # Any: a stranger's JSON
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadTensor(f"the header of {path.name} is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise BadTensor(f"the header of {path.name} is not a JSON object")
    return header


def _stored(path: Path, name: str, entry: Any, start: int, file_bytes: int) -> Stored:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
            pass
        case _:
            raise BadTensor(f"{path.name} describes the tensor {name!r} in an unknown way")
    if dtype not in _PLAIN:
        raise BadTensor(f"the tensor {name!r} in {path.name} has the unknown type {dtype!r}")
    if len(shape) > _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise BadTensor(f"the tensor {name!r} in {path.name} has the impossible shape {shape}")
    wanted = math.prod(shape) * np.dtype(_PLAIN[dtype]).itemsize
    if first < 0 or last - first != wanted:
        raise BadTensor(
            f"the tensor {name!r} in {path.name} has {last - first} bytes, "
            f"its shape {shape} of {dtype} needs {wanted}"
        )
    if start + last > file_bytes:
        raise Truncated(
            f"the tensor {name!r} ends at byte {start + last}, {path.name} at {file_bytes}: "
            "the file is cut short"
        )
    return Stored(name, dtype, tuple(shape), path, start + first, wanted)


def _refuse_overlaps(path: Path, stored: list[Stored]) -> None:
    """The format has every byte belong to one tensor; of two that share some, one is wrong."""
    before = None
    for each in sorted(stored, key=lambda each: (each.offset, each.size_bytes)):
        if before is not None and each.offset < before.offset + before.size_bytes:
            raise BadTensor(
                f"{path.name} is damaged: {before.name!r} and {each.name!r} claim the same bytes"
            )
        before = each
