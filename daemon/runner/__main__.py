"""A runner process: `python -m qm.daemon.runner FD [TURNS SEAT]`.

FD is its end of a socketpair; TURNS and SEAT are where it takes turns on the CPU.

It says `Hello`, waits for `Load`, and then answers until `Exit`. It never outlives the daemon:
the kernel kills it when its parent dies, and the end of the socket ends it too.

Of our own modules it first imports what loading weights takes. llama.cpp needs no Python for that,
so all others are imported meanwhile.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
from typing import Final

from . import plain_typing  # noqa: F401  before what wants typing_extensions

# isort: split
from qm.modelfiles.binding import binding_version
from qm.modelfiles.native import C

from . import wire
from .ahead import Ahead
from .intake import Intake
from .isolation import isolate
from .llama_error import LlamaError
from .llama_log import Log
from .weights import Model

_PROGRESS_STEP: Final = 0.02
_SERVING: Final = f"{__package__}.serving"


def main() -> int:
    """Serves one daemon over the inherited socket; returns the exit status."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    isolate()
    log = Log()
    C.llama_backend_init()
    intake = Intake(connection)
    connection.sendall(wire.encode(wire.Hello(os.getpid(), binding_version())))
    threading.Thread(target=intake.run, name="intake", daemon=True).start()
    threading.Thread(target=importlib.import_module, args=(_SERVING,), daemon=True).start()
    order = _wait_for_order(connection, intake)
    if order is not None:
        _load(order, connection, intake, log)
    connection.close()
    return 0


def _wait_for_order(connection: socket.socket, intake: Intake) -> wire.Load | None:
    """The first `Load`; None when told to leave instead."""
    while True:
        work = intake.inbox.get()
        match work:
            case wire.Exit():
                return None
            case wire.Ping():
                connection.sendall(wire.encode(wire.Pong(work.id)))
            case wire.Load():
                return work
            case wire.Failed():
                connection.sendall(wire.encode(work))
            case _:
                continue


def _load(order: wire.Load, connection: socket.socket, intake: Intake, log: Log) -> None:
    """Loads the model that `order` asks for and answers until `Exit`, or tells why it can't."""
    ahead = Ahead(order)
    progress = _Progress(order.id, intake, connection)
    try:
        model = Model(order.weights, order.placement, progress.tell, log)
    except LlamaError as error:
        connection.sendall(wire.encode(error.failed(order.id)))
        return
    from .serving import serve  # noqa: PLC0415  imported by now, or soon

    serve(order, model, connection, intake, log, ahead=ahead)


class _Progress:
    """Sends a frame for every notable step; stops the load once the daemon wants us gone."""

    def __init__(self, request_id: int, intake: Intake, connection: socket.socket) -> None:
        self._request_id = request_id
        self._intake = intake
        self._connection = connection
        self._told = 0.0

    def tell(self, fraction: float) -> bool:
        if fraction >= self._told + _PROGRESS_STEP:
            self._told = fraction
            self._connection.sendall(wire.encode(wire.Progress(self._request_id, fraction)))
        return not self._intake.leaving


if __name__ == "__main__":
    # Threads of llama.cpp may still run: skip the interpreter's teardown.
    sys.stderr.flush()
    os._exit(main())
