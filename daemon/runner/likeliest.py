"""The likeliest token, told from logits at once.

llama.cpp's sampler chains first list every token of the vocabulary, which takes longer than all
else between two steps. A greedy answer needs no list, and numpy does without one. But to fetch it
takes a tenth of a second of a core, and 20 MB: that is for runners with answers of some length, and
for a moment without one. Where none comes, it is due once the lists have taken as long.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from typing import Any, Final

UNKNOWN: Final = -1
PATIENCE: Final = 24  # tokens that are picked without
LISTED: Final = 15_000_000  # candidates, in a tenth of a second
_MOST_ROWS: Final = 512  # whose places are remembered


class Likeliest:
    """For one vocabulary. Not for several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._numpy: Any = None  # Any: a module, imported late
        self._asked = 0
        self._fetching = False
        self._rows: dict[int, Any] = {}  # Any: arrays of numpy, by address

    @property
    def due(self) -> bool:
        """Whether a moment of rest is one to `fetch`."""
        return self._asked >= PATIENCE and not self._fetching

    def fetch(self) -> None:
        """Begins to get ready, in a thread of its own."""
        if not self._fetching:
            self._fetching = True
            threading.Thread(target=self._fetch, name="numpy", daemon=True).start()

    def of(self, logits: Any) -> int:  # Any: a pointer to `size` floats
        """The first of the likeliest tokens; UNKNOWN until numpy is there."""
        if self._numpy is None:
            self._asked += 1
            if self._asked * self._size >= LISTED:
                self.fetch()
            return UNKNOWN
        address = ctypes.addressof(logits.contents)
        row = self._rows.get(address)
        if row is None:
            row = self._row(address)
        return int(row.argmax())

    def _row(self, address: int) -> Any:
        if len(self._rows) >= _MOST_ROWS:
            self._rows.clear()
        floats: Any = (ctypes.c_float * self._size).from_address(address)
        row = self._rows[address] = self._numpy.frombuffer(floats, dtype=self._numpy.float32)
        return row

    def _fetch(self) -> None:
        self._numpy = importlib.import_module("numpy")
