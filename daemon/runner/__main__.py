"""A runner process: `python -m qm.daemon.runner FD [TURNS SEAT]`.

FD is its end of a socketpair; TURNS and SEAT are where it takes turns on the CPU.

It says `Hello`, waits for `Load`, and then answers until `Exit`. It never outlives the daemon:
the kernel kills it when its parent dies, and the end of the socket ends it too.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from pathlib import Path

from qm.modelfiles.native import C, binding_version

from ..hardware import physical_cores
from ..turns import NoTurns, Turns
from . import wire
from .constraints import Constraints
from .draft import Draft
from .engine import Engine
from .intake import Intake, Ready, Woken
from .isolation import isolate
from .llama import Context
from .llama_error import LlamaError
from .llama_log import Log
from .loading import load
from .reuse import Reuse
from .snapshots import Snapshots
from .weights import Model


def main() -> int:
    """Serves one daemon over the inherited socket; returns the exit status."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    isolate()
    log = Log()
    C.llama_backend_init()
    intake = Intake(connection)
    connection.sendall(wire.encode(wire.Hello(os.getpid(), binding_version())))
    threading.Thread(target=intake.run, name="intake", daemon=True).start()
    loaded = _wait_for_model(connection, intake, log)
    if loaded is not None:
        model, context, draft, order = loaded
        reuse = Reuse(context, _snapshots(order), lambda: intake.inbox.put(Woken()))
        engine = Engine(
            *(connection, intake, model, context),
            reuse=reuse,
            turns=_turns(order.placement),
            speculate=order.speculate,
            draft=draft,
        )
        gc.freeze()  # what lives as long as we do needn't be searched between two steps
        engine.run()
        reuse.put_away()
        if draft is not None:
            draft.free()
        context.free()
        model.free()
    connection.close()
    return 0


def _wait_for_model(
    connection: socket.socket, intake: Intake, log: Log
) -> tuple[Model, Context, Draft | None, wire.Load] | None:
    """Loads what the first `Load` asks for; None when told to leave before or instead."""
    while True:
        work = intake.inbox.get()
        match work:
            case wire.Exit():
                return None
            case wire.Ping():
                connection.sendall(wire.encode(wire.Pong(work.id)))
            case wire.Load():
                break
            case wire.Failed():
                connection.sendall(wire.encode(work))
            case _:
                continue
    try:
        model, context, projector, draft, answer = load(work, intake, log, connection)
    except LlamaError as error:
        connection.sendall(wire.encode(wire.Failed(work.id, error.code, str(error))))
        return None
    intake.ready = Ready(
        model.vocabulary,
        answer.n_ctx,
        work.embedding,
        model.rank_template,
        Constraints(model.vocabulary),
        projector,
    )
    connection.sendall(wire.encode(answer))
    return model, context, draft, work


def _snapshots(order: wire.Load) -> Snapshots | None:
    """Where conversations outlive this process; nowhere for models that only embed."""
    if order.kv_directory is None or not order.kv_budget_bytes or order.embedding:
        return None
    return Snapshots(Path(order.kv_directory), order, binding_version())


def _turns(placement: wire.Placement) -> Turns:
    """Who computes elsewhere than on the CPU, or leaves half of it to others, needs none."""
    crowds = 2 * placement.n_threads > physical_cores() or not placement.n_threads
    if len(sys.argv) < 4 or placement.n_gpu_layers or not crowds:
        return NoTurns()
    return Turns(int(sys.argv[2]), int(sys.argv[3]))


if __name__ == "__main__":
    # Threads of llama.cpp may still run: skip the interpreter's teardown.
    sys.stderr.flush()
    os._exit(main())
