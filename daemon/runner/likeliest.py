"""The likeliest token, told from logits at once.

llama.cpp's sampler chains first list every token of the vocabulary, which takes longer than all
else between two steps. A greedy answer needs no list, and numpy does without one. It is fetched by
a thread of its own once answers turn out to be longer: not every runner is worth its 20 MB.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from typing import Any, Final

UNKNOWN: Final = -1
PATIENCE: Final = 24  # tokens that are picked without
_MOST_ROWS: Final = 512  # whose places are remembered


class Likeliest:
    """For one vocabulary. Not for several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._numpy: Any = None  # Any: a module, imported late
        self._asked = 0
        self._rows: dict[int, Any] = {}  # Any: arrays of numpy, by address

    def of(self, logits: Any) -> int:  # Any: a pointer to `size` floats
        """The first of the likeliest tokens; UNKNOWN until numpy is there."""
        if self._numpy is None:
            self._asked += 1
            if self._asked == PATIENCE:
                threading.Thread(target=self._fetch, name="numpy", daemon=True).start()
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
