"""The head of a quantised file, as llama.cpp's quantiser writes it, before there are any tensors.

llama.cpp decides in a dry run which type each tensor gets, and ggml packs the header.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..native import declare
from ..quantization import TENSOR_TYPE_NUMBERS

ALIGNMENT: Final = 32  # of the tensors, whatever the source says
_VERSION: Final = 2  # GGML_QNT_VERSION
_SPLIT = ("split.no", "split.count", "split.tensors.count")


@dataclass(frozen=True, slots=True)
class Head:
    """The bytes before the tensors, and the tensors' new types in the order of the file."""

    data: bytes
    types: Mapping[str, str]


class _Parameters(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.POINTER(ctypes.c_void_p)))


_pointer, _text = ctypes.c_void_p, ctypes.c_char_p
_open = declare("gguf_init_from_file", _pointer, _text, _Parameters)
_empty = declare("gguf_init_empty", _pointer)
_free = declare("gguf_free", None, _pointer)
_free_tensors = declare("ggml_free", None, _pointer)
_set_pairs = declare("gguf_set_kv", None, _pointer, _pointer)
_set_number = declare("gguf_set_val_u32", None, _pointer, _text, ctypes.c_uint32)
_remove = declare("gguf_remove_key", ctypes.c_int64, _pointer, _text)
_tensor = declare("ggml_get_tensor", _pointer, _pointer, _text)
_add_tensor = declare("gguf_add_tensor", None, _pointer, _pointer)
_set_type = declare("gguf_set_tensor_type", None, _pointer, _text, ctypes.c_int)
_size = declare("gguf_get_meta_size", ctypes.c_size_t, _pointer)
_pack = declare("gguf_get_meta_data", None, _pointer, _pointer)


def quantised_head(source: Path, file_type: int, types: Mapping[str, str]) -> Head | None:
    """None where ggml can't read the source."""
    with _opened(source) as (pairs, tensors), _made() as made:
        if not pairs:
            return None
        _set_pairs(made, pairs)
        _set_number(made, b"general.quantization_version", _VERSION)
        _set_number(made, b"general.file_type", file_type)
        for key in _SPLIT:
            _remove(made, key.encode())
        for name, kind in types.items():
            _add_tensor(made, _tensor(tensors, name.encode()))
            _set_type(made, name.encode(), TENSOR_TYPE_NUMBERS[kind])
        data = ctypes.create_string_buffer(_size(made))
        _pack(made, data)
        return Head(data.raw, types)


@contextmanager
def _opened(source: Path) -> Iterator[tuple[Any, Any]]:
    tensors = ctypes.c_void_p()
    pairs = _open(os.fsencode(source), _Parameters(True, ctypes.pointer(tensors)))
    try:
        yield pairs, tensors
    finally:
        _free(pairs)
        _free_tensors(tensors)


@contextmanager
def _made() -> Iterator[Any]:
    made = _empty()
    try:
        yield made
    finally:
        _free(made)
