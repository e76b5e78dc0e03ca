"""Takes idle conversations out of the cache, into plain memory, before an answer begins alone.

On a CPU a step looks at all cells up to the last one in use, whoever's they are, and where only one
token is evaluated each thread takes a part of them: cells of others then leave threads idle. A
quarter of a thousand of such cells costs a small model a seventh of its speed; to copy them takes
as long as one token, and to copy them back, when their conversation goes on, half of that.
"""

from __future__ import annotations

from typing import Final

from .clearing import clear_for
from .llama import Context
from .slots import Slot, Slots

MOST_BYTES: Final = 32 << 20  # of all that is packed; larger models have little to gain
_STEP: Final = 256  # cells; llama.cpp looks at so many more at a time
_ANSWER: Final = 128  # tokens that one is expected to have


class Packing:
    """For the slots of one context."""

    def __init__(self, context: Context, slots: Slots) -> None:
        self._context = context
        self._slots = slots

    def pack(self, n_tokens: int, *, always: bool = False) -> bool:
        """Empties the cache for a prompt of `n_tokens`, if that pays or `always`, while no slot is
        busy.

        All goes or nothing, so that what is evaluated next begins with the first cell.
        """
        held = self._slots.most_cells
        pays = held > n_tokens and held + n_tokens + _ANSWER > _STEP
        if not (self._context.on_host and held and (pays or always)):
            return False
        holding = self._slots.holding
        if not all(self._can_go(slot) for slot in holding):
            return False
        kept_bytes = sum(len(slot.packed) for slot in self._slots.all if slot.packed)
        added_bytes = sum(self._context.state_bytes(slot.id) for slot in holding)
        if kept_bytes + added_bytes > MOST_BYTES:
            return False
        for slot in holding:
            slot.packed = self._context.state(slot.id)
            slot.shrink(0)
        self._context.clear()
        return True

    def unpack(self, source: Slot, slot: Slot, length: int) -> int:
        """Puts the first `length` tokens of a packed slot into an idle one, maybe the same, that
        is about to be taken; how many it holds then, which is none where they don't fit.
        """
        packed, held = source.packed, len(source.cached)
        assert packed is not None
        self._context.remove(slot.id, -1)
        self._slots.empty(slot)
        fits = clear_for(held, self._context, self._slots)
        if not fits or not self._context.restore(slot.id, packed):
            self._context.remove(slot.id, -1)
            return 0
        if length < held:
            self._context.remove(slot.id, length)
        slot.guarded = length
        return length

    def _can_go(self, slot: Slot) -> bool:
        """Whether all that it holds comes back with its state; images keep other accounts."""
        return not slot.extra and not slot.floor and not self._context.floor(len(slot.cached))
