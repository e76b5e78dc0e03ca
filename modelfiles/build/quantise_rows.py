"""Quantising rows with ggml's own function, which gives the bytes of llama.cpp's quantiser.

That one stops all threads but one after each tensor, to write, and writes the head of the file
last. Here every thread has the next rows at hand, and who takes the bytes gets them front to back.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import local
from typing import Any, Final, TypeAlias

from qm.store.ggml import TYPES_BY_NAME
from qm.store.gguf import Header, Tensor

from ..native import declare
from ..quantization import TENSOR_TYPE_NUMBERS
from .quantised_head import Head

Data: TypeAlias = bytes | memoryview

_CHUNK_ITEMS: Final = 1 << 18  # milliseconds of work, of which Python takes little
_AHEAD: Final = 3  # chunks a thread that may wait for who takes them
_FLOAT_BYTES: Final = 4

_address, _count = ctypes.c_void_p, ctypes.c_int64
_is_valid = declare(
    "ggml_validate_row_data", ctypes.c_bool, ctypes.c_int, _address, ctypes.c_size_t
)
_quantize = declare(
    "ggml_quantize_chunk",
    *(ctypes.c_size_t, ctypes.c_int, _address, _address, _count, _count, _count, _address),
)
_TO_FLOATS: Final[Mapping[str, Any]] = {  # Any: ctypes
    "F16": declare("ggml_fp16_to_fp32_row", None, _address, _address, _count),
    "BF16": declare("ggml_bf16_to_fp32_row", None, _address, _address, _count),
}
READABLE: Final = frozenset({"F32", *_TO_FLOATS})
"""The types that numbers may have before."""


class InvalidNumbers(Exception):
    """A tensor holds what is no number, or becomes that."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows of a tensor, one after the other from byte `start` of the source."""

    tensor: Tensor
    type: str  # that they get
    start: int
    items: int
    padding: bytes = b""  # that follows them

    @property
    def source_bytes(self) -> int:
        return _bytes(self.tensor.type, self.items)


def quantised_file(
    source: Path,
    header: Header,
    head: Head,
    threads: int,
    on_tensor: Callable[[str, int, int], None],
) -> Generator[Data]:
    """The quantised file, front to back. Raises InvalidNumbers.

    `on_tensor` gets the name of a tensor before it is read, its number, and how many there are.
    """
    tensors = {tensor.name: tensor for tensor in header.tensors}
    yield head.data
    with source.open("rb", buffering=0) as file, _workers(file.fileno(), threads) as submit:
        waiting = deque[Future[Data]]()
        for number, (name, kind) in enumerate(head.types.items(), 1):
            on_tensor(name, number, len(head.types))
            for rows in _chunks(tensors[name], kind, header):
                waiting.append(submit(rows))
                if len(waiting) > threads * _AHEAD:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def quantised_bytes(header: Header, head: Head) -> int:
    """How large the quantised file will be."""
    items = {tensor.name: tensor.items for tensor in header.tensors}
    sizes = [_bytes(kind, items[name]) for name, kind in head.types.items()]
    return len(head.data) + sum(size + -size % header.alignment for size in sizes)


def _chunks(tensor: Tensor, kind: str, header: Header) -> Iterator[_Rows]:
    """Whole rows; the last ones are followed by what fills the tensor up."""
    row_items = _row_items(tensor)
    most = max(1, _CHUNK_ITEMS // row_items) * row_items
    padding = bytes(-_bytes(kind, tensor.items) % header.alignment)
    for first in range(0, tensor.items, most):
        start = header.data_offset + tensor.offset + _bytes(tensor.type, first)
        items = min(most, tensor.items - first)
        yield _Rows(tensor, kind, start, items, padding if first + items == tensor.items else b"")


@contextmanager
def _workers(fd: int, threads: int) -> Iterator[Callable[[_Rows], Future[Data]]]:
    scratch = local()

    def quantised(rows: _Rows) -> Data:
        if not hasattr(scratch, "buffers"):
            scratch.buffers = _Buffers()
        return _quantised(fd, rows, scratch.buffers)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="quantise")
    try:
        yield lambda rows: pool.submit(quantised, rows)
    finally:
        pool.shutdown(cancel_futures=True)


class _Buffers:
    """What a thread reads into and calculates in, made once."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}  # Any: ctypes arrays

    def of(self, use: str, size_bytes: int) -> Any:
        if len(self._kept.get(use, b"")) < size_bytes:
            self._kept[use] = (ctypes.c_char * size_bytes)()
        return self._kept[use]


def _quantised(fd: int, rows: _Rows, buffers: _Buffers) -> Data:
    tensor, size_bytes = rows.tensor, rows.source_bytes
    stored = buffers.of("stored", size_bytes)
    got = os.preadv(fd, [memoryview(stored)[:size_bytes]], rows.start)
    if got != size_bytes or not _is_valid(TENSOR_TYPE_NUMBERS[tensor.type], stored, size_bytes):
        raise InvalidNumbers(f"tensor '{tensor.name}' has invalid data")
    if rows.type == tensor.type:
        return bytes(memoryview(stored)[:size_bytes]) + rows.padding
    floats = stored
    if tensor.type != "F32":
        floats = buffers.of("floats", rows.items * _FLOAT_BYTES)
        _TO_FLOATS[tensor.type](stored, floats, rows.items)
    made_bytes = _bytes(rows.type, rows.items)
    made = (ctypes.c_char * (made_bytes + len(rows.padding)))()
    row_items = _row_items(tensor)
    count = rows.items // row_items
    _quantize(TENSOR_TYPE_NUMBERS[rows.type], floats, made, 0, count, row_items, None)
    if not _is_valid(TENSOR_TYPE_NUMBERS[rows.type], made, made_bytes):
        raise InvalidNumbers(f"quantized data validation failed for '{tensor.name}'")
    return memoryview(made).cast("B")


def _row_items(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.shape else 1


def _bytes(kind: str, items: int) -> int:
    return items // TYPES_BY_NAME[kind].block_items * TYPES_BY_NAME[kind].block_bytes
