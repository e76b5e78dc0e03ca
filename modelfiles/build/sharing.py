"""The CPU, shared with others while a build computes.

A chunk of text is seconds of computing, and so is a large tensor. llama.cpp asks between any two
nodes of its graph whether to go on, and its quantiser tells of each tensor before it begins: there
others go first, by `Turns`. Nothing about the graph changes, so nor do results.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from ..native import C
from .queue import place

_PIECE_S: Final = 0.002  # others are let in so often, where the pieces are that short


class Sharing:
    """This process's way of computing: with its place in the queue, if it has one."""

    def __init__(self) -> None:
        self._turns = place()
        self._since_s = 0.0
        self._used_s = 0.0
        self._terminated = False
        self._waiting = False
        self._before: Any = None  # Any: what `signal` takes for a handler
        self._callback = C.ggml_abort_callback(self._between_nodes)  # C keeps a bare pointer

    def compute(self, context: Any, batch: Any, *, in_pieces: bool) -> tuple[int, float]:
        """llama_decode's status and the seconds that it took, without those of waiting.

        Only with `in_pieces` may others come between; it costs a call a node.
        """
        pieces = in_pieces and self._turns is not None
        callback = self._callback if pieces else C.ggml_abort_callback()
        C.llama_set_abort_callback(context, callback, None)
        with self.turn():
            status = int(C.llama_decode(context, batch))
            C.llama_synchronize(context)
        return status, self._used_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """What is done inside is done when it is our turn. Lets a SIGTERM wait until its end.

        Turns are for the main thread: what another does, beside it, is done at once.
        """
        self._used_s = 0.0
        if self._turns is None or not _on_main_thread():
            self._since_s = time.perf_counter()
            yield
            self._used_s = time.perf_counter() - self._since_s
            return
        before = self._before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, self._on_terminated)
        try:
            self._take()
            yield
            self._give()
        finally:
            self._turns.rest()
            signal.signal(signal.SIGTERM, before)
            if self._terminated:
                self._terminated = False
                signal.raise_signal(signal.SIGTERM)

    def pause(self) -> None:
        """Lets others in; for callbacks, where nothing may be raised."""
        due = time.perf_counter() - self._since_s > _PIECE_S
        if self._turns is not None and due and _on_main_thread():
            self._give()
            self._take()

    def _between_nodes(self, _: object) -> bool:
        """True ends the graph."""
        self.pause()
        return self._terminated

    def _take(self) -> None:
        try:
            self._waiting = True
            if self._turns is not None and not self._terminated:
                self._turns.take()
        except _Terminated:
            pass  # who asks between nodes is told; the rest comes to its end
        finally:
            self._waiting = False
        self._since_s = time.perf_counter()

    def _give(self) -> None:
        seconds = time.perf_counter() - self._since_s
        self._used_s += seconds
        if self._turns is not None:
            self._turns.give(seconds)

    def _on_terminated(self, number: int, frame: FrameType | None) -> None:
        """What else the process does about it is done at once, but for leaving."""
        self._terminated = True
        if callable(self._before):
            with suppress(SystemExit):
                self._before(number, frame)
        if self._waiting:
            raise _Terminated


class _Terminated(Exception):
    """Raised by SIGTERM, inside the wait for a turn."""


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


_sharing: list[Sharing] = []


def sharing() -> Sharing:
    """This process's, made on first use: whatever it runs, it has one place in the queue."""
    if not _sharing:
        _sharing.append(Sharing())
    return _sharing[0]
