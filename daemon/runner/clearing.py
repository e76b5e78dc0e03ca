"""Gives the cells of idle slots to those who need them, the longest unused first."""

from __future__ import annotations

from .llama import Context
from .slots import Slots


def evict(context: Context, slots: Slots) -> bool:
    """Frees the cells of an idle slot; False when none has any."""
    evicted = slots.evict()
    if evicted is not None:
        context.remove(evicted.id, -1)
    return evicted is not None


def clear_for(n_cells: int, context: Context, slots: Slots) -> bool:
    """Evicts until `n_cells` more fit; False when running answers hold what is needed."""
    while not slots.cells_fit(context.n_ctx - n_cells):
        if not evict(context, slots):
            return False
    return True
