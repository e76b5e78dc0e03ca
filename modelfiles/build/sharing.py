"""The CPU, shared with others while a model runs for a build.

A chunk of text is seconds of computing. llama.cpp asks between any two nodes of its graph whether
to go on: there others go first, by `Turns`. Nothing about the graph changes, so nor do results.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ..native import C
from .queue import place

_PIECE_S: Final = 0.002  # others are let in so often, where the nodes are that short


class Sharing:
    """This process's way of computing: with its place in the queue, if it has one."""

    def __init__(self) -> None:
        self._turns = place()
        self._since_s = 0.0
        self._used_s = 0.0
        self._leaving: SystemExit | None = None
        self._callback = C.ggml_abort_callback(self._between_nodes)  # C keeps a bare pointer

    def compute(self, context: Any, batch: Any, *, in_pieces: bool) -> tuple[int, float]:
        """llama_decode's status and the seconds that it took, without those of waiting.

        Only with `in_pieces` may others come between; it costs a call a node.
        """
        pieces = in_pieces and self._turns is not None
        callback = self._callback if pieces else C.ggml_abort_callback()
        C.llama_set_abort_callback(context, callback, None)
        with self._turn():
            status = int(C.llama_decode(context, batch))
            C.llama_synchronize(context)
        if self._leaving is not None:
            raise self._leaving
        return status, self._used_s

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._used_s = 0.0
        self._take()
        try:
            yield
        finally:
            self._give()
            if self._turns is not None:
                self._turns.rest()

    def _between_nodes(self, _: object) -> bool:
        """True ends the graph. A SystemExit, from SIGTERM, is kept: C can't pass it on."""
        try:
            if time.perf_counter() - self._since_s > _PIECE_S:
                self._give()
                self._take()
        except SystemExit as leaving:
            self._leaving = leaving
        return self._leaving is not None

    def _take(self) -> None:
        if self._turns is not None:
            self._turns.take()
        self._since_s = time.perf_counter()

    def _give(self) -> None:
        seconds = time.perf_counter() - self._since_s
        self._used_s += seconds
        if self._turns is not None:
            self._turns.give(seconds)


_sharing: list[Sharing] = []


def sharing() -> Sharing:
    """This process's, made on first use: whatever it runs, it has one place in the queue."""
    if not _sharing:
        _sharing.append(Sharing())
    return _sharing[0]
