"""Whether flash attention pays on this CPU, for heads of a model's width: measured.

llama.cpp's kernel for a token adds up values in vectors of 16-bit floats. What doesn't fill them
goes number by number, and how wide they are is the processor's: with AVX512-FP16 heads of 64 or 96
numbers take as long as ten times as many. At 1,000 cells that doubles the time of a token. Without
flash attention llama.cpp multiplies matrices instead, for which any width will do, at the price
of a buffer for the product.
"""

from __future__ import annotations

import ctypes
import time
from functools import cache
from typing import Any, Final

from qm.modelfiles.native import C

TOKENS_TOGETHER: Final = 64  # evaluated at once without it: the buffer grows with them
_FULL: Final = 256  # numbers that fill any processor's vectors
_SLOW: Final = 3.0  # times as long for each number; full vectors of a narrow head take up to twice
_CELLS: Final = 1024
_TIMES: Final = 5
_ROOM: Final = 8 << 20  # for the graph and what ggml needs to compute it; a few times enough
_F32, _F16 = 0, 1


@cache
def is_slow(width: int) -> bool:
    """Whether flash attention with heads of `width` numbers is far slower than with wide ones."""
    try:
        return _seconds(width) / width > _SLOW * _seconds(_FULL) / _FULL
    except AttributeError:  # a build that hides these functions
        return False


def _seconds(width: int) -> float:
    """The least time of one head of one token, over cells of zeros."""
    memory = (ctypes.c_uint8 * (_ROOM + 4 * _CELLS * width))()
    context = _call("ggml_init", _InitParams(len(memory), ctypes.addressof(memory), no_alloc=False))
    query = _tensor(context, _F32, width, 1)
    key, value = (_tensor(context, _F16, width, _CELLS) for _ in range(2))
    attended = _call(
        "ggml_flash_attn_ext",
        *(context, query, key, value, None),
        *(ctypes.c_float(1.0), ctypes.c_float(0.0), ctypes.c_float(0.0)),
    )
    graph = _call("ggml_new_graph", context)
    _call("ggml_build_forward_expand", graph, attended)
    found = min(_timed(context, graph) for _ in range(_TIMES))
    _call("ggml_free", context)
    return found


def _timed(context: ctypes.c_void_p, graph: ctypes.c_void_p) -> float:
    started = time.perf_counter()
    _call("ggml_graph_compute_with_ctx", context, graph, ctypes.c_int(1))
    return time.perf_counter() - started


def _tensor(context: ctypes.c_void_p, kind: int, width: int, count: int) -> ctypes.c_void_p:
    sizes = (ctypes.c_int64(width), ctypes.c_int64(count), ctypes.c_int64(1))
    return _call("ggml_new_tensor_3d", context, ctypes.c_int(kind), *sizes)


def _call(name: str, *arguments: Any) -> ctypes.c_void_p:  # Any: ctypes values
    """A function of ggml's that returns a pointer, or nothing of interest."""
    function = getattr(C._lib, name)
    function.restype = ctypes.c_void_p
    return ctypes.c_void_p(function(*arguments))


class _InitParams(ctypes.Structure):
    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )
