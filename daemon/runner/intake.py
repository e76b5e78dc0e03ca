"""Reads what the daemon sends, on a thread of its own, and makes it ready for the engine.

Work that needn't stop the decoding loop happens here: parsing frames, tokenising, building sampler
chains (`preparing`); on further threads, compiling constraints that are new. The loop finds only
finished work in its inbox. When the daemon goes away, so does this process, whatever it is doing.
"""

from __future__ import annotations

import os
import socket
import threading
import traceback
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from . import wire
from .llama_error import LlamaError

if TYPE_CHECKING:
    # A model is loaded while these are imported.
    from .embedding import EmbedWork
    from .preparing import Ready
    from .sequence import Sequence

_READ_BYTES = 65_536


class Woken:
    """Nothing new, but something that was waited for is there."""


Work: TypeAlias = (
    "wire.Load | wire.Cancel | wire.Ping | wire.Exit | wire.FromRunner"
    " | Sequence | EmbedWork | Woken"
)


class Intake:
    """Feeds `inbox`. `ready` is set by the main thread once a model is loaded."""

    def __init__(self, connection: socket.socket) -> None:
        self.inbox: SimpleQueue[Work] = SimpleQueue()
        self.ready: Ready | None = None
        self.leaving = False  # Exit came: a load that is under way may stop
        self._connection = connection
        self._compiling: set[int] = set()
        self._cancelled: set[int] = set()  # of those: to be cancelled again once they are known

    def run(self) -> None:
        """Reads until the daemon closes its end; then ends the process."""
        frames = wire.FrameReader()
        try:
            while data := self._connection.recv(_READ_BYTES):
                for body in frames.feed(data):
                    self._receive(wire.decode_to_runner(body))
        finally:
            # The daemon is gone or broken. The main thread may be inside llama.cpp for long;
            # nothing that it holds is worth waiting for.
            os._exit(0)

    def _receive(self, message: wire.ToRunner) -> None:
        if isinstance(message, wire.Generate) and self._is_new_constraint(message):
            self._compiling.add(message.id)
            threading.Thread(target=self._compile, args=(message,), daemon=True).start()
            return
        if isinstance(message, wire.Cancel) and message.id in self._compiling:
            self._cancelled.add(message.id)
        self.inbox.put(self._prepare(message))

    def _is_new_constraint(self, message: wire.Generate) -> bool:
        return self.ready is not None and self.ready.takes_long(message)

    def _compile(self, message: wire.Generate) -> None:
        """Prepares a request that takes long; what comes behind it needn't wait."""
        done = False
        try:
            self.inbox.put(self._prepare(message))
            done = True
        finally:
            if not done:  # a defect: end as a crash that is told, don't leave the request waiting
                traceback.print_exc()
                os._exit(1)
        self._compiling.discard(message.id)
        if message.id in self._cancelled:
            self._cancelled.discard(message.id)
            self.inbox.put(wire.Cancel(message.id))

    def _prepare(self, message: wire.ToRunner) -> Work:
        match message:
            case wire.Exit():
                self.leaving = True
                return message
            case wire.Load() | wire.Cancel() | wire.Ping():
                return message
        if self.ready is None:
            return wire.Failed(message.id, "unsupported", "no model is loaded yet")
        try:
            return self.ready.work(message)
        except LlamaError as error:
            return error.failed(message.id)
