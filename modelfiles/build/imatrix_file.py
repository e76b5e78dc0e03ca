"""Importance matrices as files: llama.cpp's GGUF layout, written and read, and its older one, read.

For every weight matrix the file has the sums of the squares of what was multiplied with its
columns, and how many rows went into them: one sum a column and expert, one count an expert.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from qm.store.errors import InvalidRequest
from qm.store.gguf import Header, read_header

_ALIGNMENT = 32
_SUMS, _COUNTS = ".in_sum2", ".counts"
_MAX_NAME_BYTES = 63
_MAX_LEGACY_ENTRIES = 1 << 16
_U32, _STRING, _ARRAY = 4, 8, 9
_F32 = 0

Floats = npt.NDArray[np.float32]


class ImatrixInvalid(InvalidRequest):
    """A file that is no importance matrix, or not one for this model."""

    code = "imatrix_invalid"


@dataclass(frozen=True, slots=True)
class Entry:
    """One weight matrix: `sums` has a row for each expert, `counts` one number."""

    sums: Floats
    counts: Floats


@dataclass(frozen=True, slots=True)
class Imatrix:
    """Entries by the name of their tensor."""

    entries: Mapping[str, Entry]
    datasets: tuple[str, ...] = ()
    chunk_count: int = 0
    chunk_size: int = 0

    def means(self) -> dict[str, Floats]:
        """What the quantiser weighs columns with; 1 where an expert was never asked."""
        return {name: _mean(entry) for name, entry in self.entries.items()}


def read_imatrix(path: Path) -> Imatrix:
    """Raises ImatrixInvalid."""
    with path.open("rb") as file:
        magic = file.read(4)
    imatrix = _read_gguf(path) if magic == b"GGUF" else _read_legacy(path.read_bytes())
    if not imatrix.entries:
        raise ImatrixInvalid("the importance matrix has no entries")
    for name, entry in imatrix.entries.items():
        if not np.isfinite(entry.sums).all():
            raise ImatrixInvalid(f"the importance matrix has a NaN or an infinity for {name}")
    return imatrix


def pack_imatrix(imatrix: Imatrix) -> bytes:
    """The GGUF file's bytes; the same for equal matrices, and for llama-imatrix's own."""
    tensors = [
        (name + suffix, array.reshape(len(entry.counts), -1))
        for name, entry in sorted(imatrix.entries.items())
        for suffix, array in ((_SUMS, entry.sums), (_COUNTS, entry.counts))
    ]
    pairs = (
        _pair("general.type", _STRING, _text("imatrix")),
        _pair("imatrix.datasets", _ARRAY, _texts(imatrix.datasets)),
        _pair("imatrix.chunk_count", _U32, struct.pack("<I", imatrix.chunk_count)),
        _pair("imatrix.chunk_size", _U32, struct.pack("<I", imatrix.chunk_size)),
    )
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs)) + b"".join(pairs)
    offset = 0
    for name, array in tensors:
        head += _text(name) + struct.pack("<IQQ", 2, array.shape[1], array.shape[0])
        head += struct.pack("<IQ", _F32, offset)
        offset += array.nbytes + -array.nbytes % _ALIGNMENT
    data = b"".join(_padded(array.astype("<f4").tobytes()) for _, array in tensors)
    return _padded(head) + data


def _mean(entry: Entry) -> Floats:
    counts = entry.counts.reshape(-1, 1)
    sums = entry.sums.reshape(len(counts), -1)
    known = counts > 0
    return np.where(known, sums / np.where(known, counts, 1), 1).astype(np.float32).ravel()


def _read_gguf(path: Path) -> Imatrix:
    header = read_header(path, arrays=True)
    arrays = _arrays(path, header)
    names = [name.removesuffix(_SUMS) for name in arrays if name.endswith(_SUMS)]
    if len(names) * 2 != len(arrays) or any(name + _COUNTS not in arrays for name in names):
        raise ImatrixInvalid("this GGUF is no importance matrix: sums and counts don't pair up")
    entries = {name: _entry(name, arrays[name + _SUMS], arrays[name + _COUNTS]) for name in names}
    datasets = header.metadata.get("imatrix.datasets")
    count, size = (header.metadata.get(f"imatrix.chunk_{key}") for key in ("count", "size"))
    if not isinstance(datasets, tuple) or not isinstance(count, int) or not isinstance(size, int):
        raise ImatrixInvalid("the importance matrix does not say what it was computed from")
    return Imatrix(entries, tuple(map(str, datasets)), count, size)


def _arrays(path: Path, header: Header) -> dict[str, Floats]:
    arrays = {}
    data = np.memmap(path, dtype=np.uint8, mode="r") if header.tensors else np.empty(0, np.uint8)
    for tensor in header.tensors:
        if tensor.type != "F32":
            raise ImatrixInvalid(f"{tensor.name} is {tensor.type}, an importance matrix has F32")
        start = header.data_offset + tensor.offset
        arrays[tensor.name] = np.array(data[start : start + tensor.size_bytes]).view("<f4")
    return arrays


def _entry(name: str, sums: Floats, counts: Floats) -> Entry:
    if not counts.size or sums.size % counts.size:
        raise ImatrixInvalid(f"{name} has {sums.size} sums for {counts.size} counts")
    return Entry(sums.reshape(counts.size, -1), np.rint(counts))


def _read_legacy(data: bytes) -> Imatrix:
    """The layout before GGUF: means times calls, one count a tensor."""
    try:
        return _legacy(data)
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise ImatrixInvalid("this file is no importance matrix") from error


def _legacy(data: bytes) -> Imatrix:
    (n_entries,), at = struct.unpack_from("<i", data), 4
    if not 0 < n_entries <= _MAX_LEGACY_ENTRIES:
        raise ValueError(n_entries)
    entries: dict[str, Entry] = {}
    for _ in range(n_entries):
        (length,) = struct.unpack_from("<i", data, at)
        if not 0 < length <= _MAX_NAME_BYTES:
            raise ValueError(length)
        name = data[at + 4 : at + 4 + length].decode()
        calls, n_values = struct.unpack_from("<ii", data, at + 4 + length)
        at += 12 + length
        if n_values < 1:
            raise ValueError(n_values)
        sums = np.frombuffer(data, "<f4", n_values, at).copy()
        at += sums.nbytes
        entries[name] = Entry(sums.reshape(1, -1), np.array([max(calls, 1)], np.float32))
    return _with_trailer(entries, data[at:])


def _with_trailer(entries: dict[str, Entry], rest: bytes) -> Imatrix:
    """The count of chunks and the data set's name come last, if at all."""
    if len(rest) < 8:
        return Imatrix(entries)
    count, length = struct.unpack_from("<ii", rest)
    dataset = rest[8 : 8 + max(length, 0)].decode(errors="replace")
    return Imatrix(entries, (dataset,) if dataset else (), count)


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _texts(texts: tuple[str, ...]) -> bytes:
    return struct.pack("<IQ", _STRING, len(texts)) + b"".join(map(_text, texts))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
