"""What llama.cpp accounts to each kind of buffer, byte by byte; also without allocating any.

llama.cpp keeps these numbers for its own fitting, in a `std::map` that C can't read. libstdc++'s
layout of it is fixed by its ABI; where the library is another one, the log's numbers must do.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from typing import Any, Final

from qm.modelfiles.native import C, bind_media

from ..devices import PROJECTOR, BufferBytes
from .registry import buffer_name, device_name, device_of_buffer
from .wire import DeviceBytes

_PROJECTOR_SYMBOL: Final = "_Z21mtmd_get_memory_usagePKc19mtmd_context_params"
_SYMBOL: Final = "_Z26llama_get_memory_breakdownPK13llama_context"
_MAX_BUFFERS: Final = 64  # a map with more entries is no map that we understand


class _Node(ctypes.Structure):
    """A node of libstdc++'s red-black tree, with the map's key and value behind it."""

    _fields_ = (
        ("color", ctypes.c_size_t),
        ("parent", ctypes.c_void_p),
        ("left", ctypes.c_void_p),
        ("right", ctypes.c_void_p),
        ("buffer", ctypes.c_void_p),
        ("weights_bytes", ctypes.c_size_t),
        ("kv_bytes", ctypes.c_size_t),
        ("compute_bytes", ctypes.c_size_t),
    )


class _Map(ctypes.Structure):
    """libstdc++'s `std::map`: an empty comparison, the tree's header, the count."""

    _fields_ = (
        ("compare", ctypes.c_size_t),
        ("color", ctypes.c_size_t),
        ("root", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("last", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
    )


def buffers(context: Any) -> tuple[BufferBytes, ...]:  # Any: a llama_context pointer
    """Bytes of each kind of buffer of this context and its model; nothing where llama.cpp's
    account can't be read.
    """
    breakdown = getattr(C._lib, _SYMBOL, None) if sys.platform == "linux" else None
    if breakdown is None:
        return ()
    breakdown.restype = _Map
    found: _Map = breakdown(ctypes.c_void_p(ctypes.cast(context, ctypes.c_void_p).value))
    if not 0 < found.count <= _MAX_BUFFERS:
        return ()
    return tuple(
        BufferBytes(
            buffer=buffer_name(node.buffer),
            device=device_of_buffer(node.buffer),
            weights_bytes=node.weights_bytes,
            kv_bytes=node.kv_bytes,
            compute_bytes=node.compute_bytes,
        )
        for node in _nodes(found.root)
    )


def projector_buffers(path: str, params: Any) -> tuple[BufferBytes, ...]:  # Any: mtmd's structure
    """Bytes that a projector takes of each device, without allocating any; nothing where mtmd
    can't tell.
    """
    library = bind_media()._libmtmd if sys.platform == "linux" else None
    usage = getattr(library, _PROJECTOR_SYMBOL, None)
    if usage is None:
        return ()
    usage.restype = _Map
    usage.argtypes = (ctypes.c_char_p, type(params))
    found: _Map = usage(path.encode(), params)
    if not 0 < found.count <= _MAX_BUFFERS:
        return ()
    return tuple(
        BufferBytes(
            PROJECTOR, device_name(node.buffer), weights_bytes=node.weights_bytes, part=PROJECTOR
        )
        for node in _nodes(found.root)
    )


def by_device(measured: tuple[BufferBytes, ...]) -> tuple[DeviceBytes, ...]:
    """The same, summed for each device."""
    rows = {one.device: DeviceBytes(one.device) for one in measured}
    for one in measured:
        row = rows[one.device]
        rows[one.device] = DeviceBytes(
            one.device,
            row.weights_bytes + one.weights_bytes,
            row.kv_bytes + one.kv_bytes,
            row.compute_bytes + one.compute_bytes,
        )
    return tuple(rows.values())


def _nodes(address: int | None) -> Iterator[_Node]:
    """The subtree's nodes in order."""
    if address:
        node = _Node.from_address(address)
        yield from _nodes(node.left)
        yield node
        yield from _nodes(node.right)
