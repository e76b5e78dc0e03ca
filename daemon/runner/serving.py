"""A runner's life with its model, from loaded weights until it leaves."""

from __future__ import annotations

import gc
import socket
import sys

from ..hardware import physical_cores
from ..turns import NoTurns, Turns
from . import wire
from .ahead import Ahead
from .constraints import Constraints
from .engine import Engine
from .intake import Intake, Woken
from .llama_error import LlamaError
from .llama_log import Log
from .loading import complete
from .preparing import Ready
from .reuse import Reuse
from .weights import Model


def serve(
    order: wire.Load,
    model: Model,
    connection: socket.socket,
    intake: Intake,
    log: Log,
    *,
    ahead: Ahead,
) -> None:
    """Tells that the model is loaded, and answers until `Exit`; or tells why it can't be used."""
    try:
        context, projector, draft, answer = complete(order, model, log)
    except LlamaError as error:
        connection.sendall(wire.encode(error.failed(order.id)))
        return
    intake.ready = Ready(
        model.vocabulary,
        answer.n_ctx,
        order.embedding,
        model.rank_template,
        Constraints(model.vocabulary),
        projector,
    )
    connection.sendall(wire.encode(answer))
    reuse = Reuse(context, ahead.snapshots(), lambda: intake.inbox.put(Woken()))
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


def _turns(placement: wire.Placement) -> Turns:
    """Who computes elsewhere than on the CPU, or leaves half of it to others, needs none."""
    crowds = 2 * placement.n_threads > physical_cores() or not placement.n_threads
    if len(sys.argv) < 4 or placement.n_gpu_layers or not crowds:
        return NoTurns()
    return Turns(int(sys.argv[2]), int(sys.argv[3]))
