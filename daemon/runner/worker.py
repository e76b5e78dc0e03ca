"""llama.cpp's own RPC server: `python -m qm.daemon.runner.worker HOST PORT THREADS`."""

from __future__ import annotations

import ctypes
import os
import shlex
import socket
import sys

from qm.modelfiles.binding import binding_version
from qm.modelfiles.native import C

from ..devices import RPC
from .greeting import address_of
from .isolation import forgo_amx
from .registry import ggml, local_devices

EXIT_UNABLE = 1


def main() -> int:
    """Serves until it is ended; the status tells that it could not."""
    host, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    forgo_amx()
    C.llama_backend_init()
    registry = ggml("ggml_backend_reg_by_name", ctypes.c_void_p, RPC.encode())
    if not registry:
        return _unable(
            "the installed llama-cpp-python was built without RPC. A build with it:\n"
            f'  CMAKE_ARGS="-DGGML_RPC=on" {shlex.quote(sys.executable)} -m pip install '
            "--force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python "
            f"llama-cpp-python=={binding_version()}"
        )
    address = ggml(
        "ggml_backend_reg_get_proc_address",
        ctypes.c_void_p,
        ctypes.c_void_p(registry),
        b"ggml_backend_rpc_start_server",
    )
    serve = ctypes.CFUNCTYPE(
        None,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_void_p),
    )(address)
    lent = local_devices()
    handles = (ctypes.c_void_p * len(lent))(*lent)
    try:
        endpoint = _free(f"{host}:{port}")
    except OSError as error:
        return _unable(f"can't serve on {host}:{port}: {error.strerror or error}")
    serve(endpoint.encode(), None, threads or os.cpu_count() or 1, len(lent), handles)
    return _unable(f"llama.cpp can't serve on {endpoint}")


def _free(endpoint: str) -> str:
    """The same in numbers, as llama.cpp wants it. Raises OSError where nobody can listen there."""
    address = address_of(endpoint)
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(address)
    return ":".join(map(str, address))


def _unable(why: str) -> int:
    sys.stderr.write(f"qm worker: {why}\n")
    return EXIT_UNABLE


if __name__ == "__main__":
    sys.exit(main())
