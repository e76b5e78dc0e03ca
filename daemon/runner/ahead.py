"""Looks at what is stored of a model's conversations while its weights load."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from . import wire

if TYPE_CHECKING:
    from .snapshots import Snapshots  # imported while a model loads


class Ahead:
    """On a thread of its own, which also begins to read the conversation that was used last."""

    def __init__(self, order: wire.Load) -> None:
        self._order = order
        self._found: Snapshots | None = None
        self._thread = threading.Thread(target=self._look, name="ahead", daemon=True)
        self._thread.start()

    def snapshots(self) -> Snapshots | None:
        """What there is; None for models that only embed, or where nothing is to be kept."""
        self._thread.join()
        return self._found

    def _look(self) -> None:
        from .snapshots import opened  # noqa: PLC0415  not needed to begin the load

        self._found = opened(self._order)
        if self._found is not None:
            self._found.read_ahead()
