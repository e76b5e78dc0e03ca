"""A node of ggml's compute graph, as its eval callback hands it over.

The structs are ggml's own (ggml.h, `struct ggml_tensor`); the binding does not declare them.
`check_layout` finds out before the first use whether the installed ggml still has them so.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from qm.store.errors import QmError

from ..native import declare

F32: Final = 0


class LayoutChanged(QmError):
    """The installed llama.cpp is laid out in a way that this version of qm does not know."""

    code = "llama_cpp_unknown"


class Node(ctypes.Structure):
    """One tensor: a result of the graph, or an operand of one."""

    type: int
    ne: Any
    nb: Any
    op: int
    src: Any
    data: int | None
    name: bytes


Node._fields_ = (
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Node) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
)
NODE_POINTER: Final = ctypes.POINTER(Node)


_op_name = declare("ggml_op_name", ctypes.c_char_p, ctypes.c_int)
_get_name = declare("ggml_get_name", ctypes.c_char_p, ctypes.c_void_p)
_n_bytes = declare("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
_get = declare(
    "ggml_backend_tensor_get",
    None,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
)
_overhead = declare("ggml_tensor_overhead", ctypes.c_size_t)
_OBJECT_BYTES: Final = 32  # ggml's header of an object, which the overhead counts too


def op_number(name: str) -> int:
    """ggml's number of an operation."""
    for number in range(256):
        if (found := _op_name(number)) is None:
            break
        if found == name.encode():
            return number
    raise LayoutChanged(f"the installed llama.cpp has no operation {name}")


def check_layout(node: Node) -> None:
    """Raises LayoutChanged if our struct is not ggml's."""
    same_size = _overhead() - ctypes.sizeof(Node) in (_OBJECT_BYTES,)
    if not same_size or _get_name(ctypes.byref(node)) != node.name:
        raise LayoutChanged("the installed llama.cpp lays its tensors out in an unknown way")


def floats(node: Any) -> Any:
    """The numbers of an F32 tensor as an array [ne3, ne2, ne1, ne0], copied off its device."""
    return _view(node, np.float32)


def integers(node: Any) -> Any:
    """As `floats`, for a tensor of I32."""
    return _view(node, np.int32)


def _view(node: Any, kind: Any) -> Any:
    """Host memory is copied too: it costs little, and nothing dangles."""
    tensor = node.contents
    size = _n_bytes(node)
    raw = np.empty(size, np.uint8)
    _get(node, raw.ctypes.data, 0, size)
    shape = tuple(reversed(tensor.ne[:4]))
    strides = tuple(reversed(tensor.nb[:4]))
    return np.lib.stride_tricks.as_strided(raw.view(kind), shape, strides)
