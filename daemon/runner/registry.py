"""ggml's backend registry: the devices of this machine, and of others over RPC."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import msgspec
from qm.modelfiles.binding import binding_version
from qm.modelfiles.native import C, declare

from ..devices import CPU, RPC, Device, Devices, RemoteDevice
from .greeting import unanswered

_KINDS: Final = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}
_ADDED: Final[set[str]] = set()  # workers that are registered
_NAMES: Final[dict[str, str]] = {}  # ours, of remote devices, as ggml's registry is one a process
_Pointer = ctypes.c_void_p


def ggml(name: str, returns: Any, *arguments: Any) -> Any:  # Any: ctypes values and their types
    """Calls a function of ggml's registry; the binding doesn't declare these."""
    return declare(name, returns)(*arguments)


def devices(endpoints: tuple[str, ...] = ()) -> Devices:
    """Every device as it is now, those of RPC servers included.

    A server that can't be reached is told as missing. One that answers nonsense ends this process:
    llama.cpp aborts on a broken connection.
    """
    missing = [(one, why) for one in endpoints if (why := _added(one))]
    count = ggml("ggml_backend_dev_count", ctypes.c_size_t)
    found = numbered(tuple(_device(_by_index(index)) for index in range(count)), endpoints)
    offload = bool(C.llama_supports_gpu_offload())
    return Devices(found, tuple(missing), offload, binding_version(), _backends())


def numbered(found: tuple[Device, ...], endpoints: tuple[str, ...]) -> tuple[Device, ...]:
    """Remote devices as RPC0, RPC1… in the order of their workers, each of which counts as one at
    least: while one is missing, the names of the others stay. ggml numbers as they come.
    """
    names: dict[str, str] = {}
    for endpoint in endpoints:
        own = [one.buffer for one in found if one.endpoint == endpoint]
        for buffer in own or [endpoint]:
            names[buffer] = f"{RPC}{len(names)}"
    return tuple(
        msgspec.structs.replace(one, name=names[one.buffer]) if one.endpoint else one
        for one in found
    )


def add_remotes(remotes: tuple[RemoteDevice, ...]) -> str:
    """Registers the workers that have these devices, which are then known by these names.

    What is wrong with the first that can't be used; nothing when all can.
    """
    _NAMES.update({one.buffer: one.name for one in remotes})
    for remote in remotes:
        if why := _added(remote.endpoint):
            return f"the worker {remote.endpoint}: {why}"
        if not device_pointer(remote.name):
            return f"the worker {remote.endpoint}: it has no {remote.buffer} any more"
    return ""


def local_devices() -> list[int]:
    """Handles of this machine's GPUs; of its CPU where it has none."""
    found = [_by_index(index) for index in range(ggml("ggml_backend_dev_count", ctypes.c_size_t))]
    gpus = [one for one in found if _kind(one) in ("gpu", "igpu")]
    return gpus or [one for one in found if _kind(one) == "cpu"]


def device_pointer(name: str) -> int:
    """The device's handle; 0 when there is none of this name."""
    for buffer, ours in _NAMES.items():
        if ours == name:
            return _by_buffer(buffer)
    return int(ggml("ggml_backend_dev_by_name", _Pointer, name.encode()) or 0)


def buffer_type(device: int) -> int:
    """The handle of the memory that a device computes in."""
    return int(ggml("ggml_backend_dev_buffer_type", _Pointer, _Pointer(device)) or 0)


def device_of_buffer(buffer: int) -> str:
    """The device that holds a type of buffer; host memory is the CPU's, whoever uses it."""
    if ggml("ggml_backend_buft_is_host", ctypes.c_bool, _Pointer(buffer)):
        return CPU
    device = ggml("ggml_backend_buft_get_device", _Pointer, _Pointer(buffer))
    return device_name(device) if device else CPU  # memory of repacked weights knows no device


def device_name(device: int) -> str:
    """A device as placements call it; whatever computes in the host's memory is the CPU."""
    if _kind(device) in ("cpu", "accel"):
        return CPU
    ours = _NAMES.get(buffer_name(buffer_type(device))) if _NAMES else None
    return ours or _text("ggml_backend_dev_name", device)


def buffer_name(buffer: int) -> str:
    return _text("ggml_backend_buft_name", buffer)


def _by_buffer(name: str) -> int:
    count = ggml("ggml_backend_dev_count", ctypes.c_size_t)
    handles = (_by_index(index) for index in range(count))
    return next((one for one in handles if buffer_name(buffer_type(one)) == name), 0)


def _by_index(index: int) -> int:
    return int(ggml("ggml_backend_dev_get", _Pointer, ctypes.c_size_t(index)))


def _backends() -> tuple[str, ...]:
    """What this llama.cpp can compute on, each once."""
    count = ggml("ggml_backend_reg_count", ctypes.c_size_t)
    registries = (
        ggml("ggml_backend_reg_get", _Pointer, ctypes.c_size_t(index)) for index in range(count)
    )
    return tuple(dict.fromkeys(map(_backend_name, registries)))


def _backend_name(registry: int) -> str:
    """Without the address that a remote one has in it."""
    return _text("ggml_backend_reg_name", registry).partition("[")[0]


def _device(pointer: int) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml(
        "ggml_backend_dev_memory", None, _Pointer(pointer), ctypes.byref(free), ctypes.byref(total)
    )
    registry = ggml("ggml_backend_dev_backend_reg", _Pointer, _Pointer(pointer))
    backend = _backend_name(registry)
    description = _text("ggml_backend_dev_description", pointer)
    return Device(
        name=_text("ggml_backend_dev_name", pointer),
        description=description,
        kind=_kind(pointer),
        backend=backend,
        free_bytes=free.value,
        total_bytes=total.value,
        buffer=buffer_name(buffer_type(pointer)),
        endpoint=description if backend == RPC else "",
    )


def _kind(pointer: int) -> str:
    return _KINDS.get(ggml("ggml_backend_dev_type", ctypes.c_int, _Pointer(pointer)), "unknown")


def _text(function: str, pointer: int) -> str:
    value = ggml(function, ctypes.c_char_p, _Pointer(pointer))
    return str(value.decode(errors="replace")) if value else ""


def _added(endpoint: str) -> str:
    """Registers one server; what is wrong with it, if anything."""
    registry = ggml("ggml_backend_reg_by_name", _Pointer, RPC.encode())
    if not registry:
        return "the installed llama-cpp-python was built without RPC"
    if endpoint in _ADDED:  # we are its one client, so a greeting would wait for us
        return ""
    if why := unanswered(endpoint):
        return why
    address = ggml(
        "ggml_backend_reg_get_proc_address",
        _Pointer,
        _Pointer(registry),
        b"ggml_backend_rpc_add_server",
    )
    add = ctypes.CFUNCTYPE(_Pointer, ctypes.c_char_p)(address)
    added = add(endpoint.encode())
    if not added:
        return "it has no devices"
    ggml("ggml_backend_register", None, _Pointer(added))
    _ADDED.add(endpoint)
    return ""
