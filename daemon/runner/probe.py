"""A probe process: `python -m qm.daemon.runner.probe FD`. It looks, and never loads.

Over FD, its end of a socketpair, come `Ask`s as lines of JSON; each gets one `Answer`. What it
touches may crash it, so the daemon keeps it only while it is of use.
"""

from __future__ import annotations

import socket
import sys

import msgspec
from qm.modelfiles.native import C

from ..devices import BufferBytes
from ..prober import Answer, Ask
from .isolation import isolate
from .llama import Context
from .llama_error import LlamaError
from .llama_log import Log
from .measure import buffers, projector_buffers
from .media import projector_params
from .registry import devices
from .weights import Model
from .wire import Placement


def main() -> int:
    """Answers until the daemon hangs up."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    isolate()
    log = Log()
    C.llama_backend_init()
    decoder = msgspec.json.Decoder(Ask)
    with connection, connection.makefile("rb") as asks:
        for line in asks:
            answer = _answer(decoder.decode(line), log)
            connection.sendall(msgspec.json.encode(answer) + b"\n")
    return 0


def _answer(ask: Ask, log: Log) -> Answer:
    if ask.placement is None:
        return Answer(devices=devices(ask.endpoints))
    try:
        return Answer(buffers=_measured(ask, ask.placement, log))
    except LlamaError as error:
        return Answer(error=str(error))


def _measured(ask: Ask, placement: Placement, log: Log) -> tuple[BufferBytes, ...]:
    """A dry run: llama.cpp plans everything and allocates nothing."""
    model = Model(ask.weights, placement, lambda _fraction: True, log, dry=True)
    context = Context(model, placement, log, embedding=ask.embedding)
    measured = buffers(context.pointer)
    context.free()
    model.free()
    if ask.projector and measured:
        measured += projector_buffers(ask.projector, projector_params(placement))
    return measured


if __name__ == "__main__":
    sys.exit(main())
