"""A job process: `python -m qm.daemon.job_process FD [TURNS] [build]`.

FD is its end of a socketpair; TURNS is the board where turns on the CPU are taken.

It reads one line, `{"kind", "home", "args", "environment", "seat"}`, and writes lines:
`{"progress": …}` any number of times, then `{"result": …}` or
`{"error": {"status", "code", "message"}}`. Until the line comes it imports what most jobs need, or
what builds do.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from qm.modelfiles.build.queue import line_up
from qm.store.errors import QmError

from .job_kinds import KINDS, JsonObject
from .lifeline import die_with_parent, watch
from .runner.isolation import forgo_amx
from .turns import JOB_WEIGHT, Turns

_COLLECT_EVERY = 100_000  # objects: those of vocabularies all live, so that looking at them is idle
PROGRESS_INTERVAL_S = 0.1  # between two lines of the same status; a bar needs no more
TERMINATED = 143
_BUILDS = ("create", "rebuild")  # nothing that they write counts before it is finished
# Nothing that looks at the environment when it is imported: that comes with the order.
_MOVING = (
    *("qm.store.store", "qm.store.pull.choice", "qm.store.pull.registry"),
    "huggingface_hub",  # the bare package, which imports its parts when they are used
)
_BUILDING = (
    *("qm.modelfiles.build.create", "qm.modelfiles.build.convert"),
    "qm.modelfiles.build.quantise",
)


def main() -> int:
    """Does one job; the exit status tells only whether it could say how that went."""
    die_with_parent()
    forgo_amx()
    signal.signal(signal.SIGTERM, _leave)
    connection = socket.socket(fileno=int(sys.argv[1]))
    with connection, connection.makefile("rb") as orders, connection.makefile("wb") as stream:
        if not _has_come(connection):
            _warm_up(_BUILDING if sys.argv[-1] == "build" else _MOVING)
        gc.freeze()  # what is imported stays
        gc.set_threshold(_COLLECT_EVERY)
        line = orders.readline()
        if not line:  # nobody needs us any more
            return 0
        order = json.loads(line)
        os.environ.update(order.get("environment", {}))
        if order["kind"] in _BUILDS:
            signal.signal(signal.SIGTERM, leave_build)
        _take_turns(order.get("seat"))
        watch(connection)
        _write(stream, _outcome(order, Reporter(stream)))
    return 0


def _has_come(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def _warm_up(modules: Iterable[str]) -> None:
    for name in modules:
        importlib.import_module(name)


class Reporter:
    """Writes progress, at most every `PROGRESS_INTERVAL_S` where only numbers changed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._said = ("", "")
        self._next_s = 0.0

    def __call__(self, step: JsonObject) -> None:
        said = (str(step.get("status")), str(step.get("digest")))
        done = step.get("completed") == step.get("total")
        now = time.monotonic()
        if said == self._said and not done and now < self._next_s:
            return
        self._said, self._next_s = said, now + PROGRESS_INTERVAL_S
        _write(self._stream, {"progress": step})


def _take_turns(seat: int | None) -> None:
    """Lets answers go first wherever this process runs a model."""
    if seat is not None:
        line_up(Turns(int(sys.argv[2]), seat, weight=JOB_WEIGHT))


def _outcome(order: JsonObject, report: Reporter) -> JsonObject:
    try:
        return {"result": KINDS[order["kind"]](Path(order["home"]), order["args"], report)}
    except QmError as error:
        return {"error": {"status": error.status, "code": error.code, "message": error.message}}


def _write(stream: BinaryIO, message: JsonObject) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def leave_build(_signal: int, _frame: FrameType | None) -> None:
    """As `_leave`; native code that writes a file fails at its next write, and so unwinds too."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
    sys.exit(TERMINATED)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """Cancelled: unwind, so that unfinished files are put away."""
    sys.exit(TERMINATED)


if __name__ == "__main__":
    exit_status = main()
    for said in (sys.stdout, sys.stderr):
        said.flush()
    os._exit(exit_status)  # whoever waits for us need not wait until all objects are freed
