"""A probe process: `python -m qm.daemon.runner.probe FD`. It looks, and never loads.

Over FD, its end of a socketpair, come `Ask`s as lines of JSON; each gets one `Answer`. What it
touches may crash it, so the daemon keeps it only while it is of use.
"""

from __future__ import annotations

import socket
import sys

import msgspec
from qm.modelfiles.native import C

from ..companions import draft_placement
from ..devices import DRAFT, BufferBytes
from ..prober import Answer, Ask
from .isolation import isolate
from .llama import Context
from .llama_error import LlamaError
from .llama_log import Log
from .measure import buffers, projector_buffers
from .media import projector_params
from .registry import devices
from .weights import Model, TokenCount
from .wire import Placement


def main() -> int:
    """Answers until the daemon hangs up."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    isolate()
    log = Log()
    decoder = msgspec.json.Decoder(Ask)
    dry_runs = DryRuns(log)
    with connection, connection.makefile("rb") as asks:
        for number, line in enumerate(asks):
            if number == 0:  # until it is asked it touches no device
                C.llama_backend_init()
            answer = _answer(decoder.decode(line), dry_runs)
            connection.sendall(msgspec.json.encode(answer) + b"\n")
    return 0


class DryRuns:
    """llama.cpp plans everything and allocates nothing; the last model's tables are kept."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: tuple[object, Model] | None = None
        self._known: tuple[tuple[str, ...], TokenCount] | None = None

    def measure(self, ask: Ask, placement: Placement) -> tuple[BufferBytes, ...]:
        """What it would allocate. Raises LlamaError."""
        model = self._model(ask.weights, placement)
        context = Context(model, placement, self._log, embedding=ask.embedding)
        measured = buffers(context.pointer)
        context.free()
        if ask.draft and measured:
            measured += self._draft_buffers(ask.draft, draft_placement(placement))
        if ask.projector and measured:
            measured += projector_buffers(ask.projector, projector_params(placement))
        return measured

    def _draft_buffers(self, path: str, placement: Placement) -> tuple[BufferBytes, ...]:
        model = Model((path,), placement, lambda _fraction: True, self._log, dry=True)
        context = Context(model, placement, self._log, embedding=False)
        measured = buffers(context.pointer)
        context.free()
        model.free()
        return tuple(msgspec.structs.replace(one, part=DRAFT) for one in measured)

    def _model(self, weights: tuple[str, ...], placement: Placement) -> Model:
        key = (weights, msgspec.structs.replace(placement, n_ctx=0, kv_type="", n_parallel=0))
        if self._kept is None or self._kept[0] != key:
            if self._kept is not None:
                self._kept[1].free()
                self._kept = None
            self._kept = key, self._read(weights, placement)
        return self._kept[1]

    def _read(self, weights: tuple[str, ...], placement: Placement) -> Model:
        """Reads a vocabulary only once: each other split means to read the model anew."""
        tokens = self._known[1] if self._known and self._known[0] == weights else None
        model = Model(
            weights, placement, lambda _fraction: True, self._log, dry=True, tokens=tokens
        )
        self._known = weights, model.token_count
        return model


def _answer(ask: Ask, dry_runs: DryRuns) -> Answer:
    if ask.placement is None:
        return Answer(devices=devices(ask.endpoints))
    try:
        return Answer(buffers=dry_runs.measure(ask, ask.placement))
    except LlamaError as error:
        return Answer(error=str(error))


if __name__ == "__main__":
    sys.exit(main())
