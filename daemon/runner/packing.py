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

MOST_BYTES: Final = 32 << 20  # of all that is packed to gain time; larger models gain little
KEPT_BYTES: Final = 128 << 20  # of all that is packed where an answer shall have the first cells
_STEP: Final = 256  # cells; llama.cpp looks at so many more at a time
_ANSWER: Final = 128  # tokens that one is expected to have


class Packing:
    """For the slots of one context."""

    def __init__(self, context: Context, slots: Slots) -> None:
        self._context = context
        self._slots = slots

    def pack(self, n_tokens: int) -> bool:
        """Empties the cache for a prompt of `n_tokens`, if that pays, while no slot is busy.

        All goes or nothing, so that what is evaluated next begins with the first cell.
        """
        held, holding = self._slots.most_cells, self._slots.holding
        if held <= n_tokens or held + n_tokens + _ANSWER <= _STEP:
            return False
        possible = self._context.on_host and self._context.can_share
        if not (possible and all(map(self._can_go, holding))):
            return False
        if sum(map(self._bytes, self._slots.all)) > MOST_BYTES:
            return False
        self._take_out(holding)
        return True

    def clear(self, source: Slot | None, *, stays: bool) -> bool:
        """Empties the cache whatever that takes, while no slot is busy; whether that was needed
        and all of it is empty now.

        `source` is kept: it `stays` in its cells, or is packed. Of all others the last used are
        packed, and what would take too much memory is lost: its next turn evaluates it again. All
        stay where one can't go: to look at its images again would take longest.
        """
        others = [slot for slot in self._slots.holding if slot is not source]
        if not self._context.on_host or not all(map(self._can_go, others)):
            return False
        room = KEPT_BYTES
        for slot in sorted(self._slots.idle(), key=lambda slot: -slot.used_at):
            if slot is source:
                continue
            room -= self._bytes(slot)
            if room < 0:
                self._context.remove(slot.id, -1)
                self._slots.empty(slot)
        going = [
            slot
            for slot in self._slots.holding
            if slot is not source or (self._can_go(slot) and not stays)
        ]
        self._take_out(going)
        return bool(going) and not self._slots.holding

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

    def _take_out(self, slots: list[Slot]) -> None:
        for slot in slots:
            slot.packed = self._context.state(slot.id)
            slot.shrink(0)
            self._context.remove(slot.id, -1)
        if not self._slots.holding:
            self._context.clear()  # what comes next begins with the first cell

    def _bytes(self, slot: Slot) -> int:
        """What it takes, or would take, when it is packed."""
        if slot.packed is not None:
            return len(slot.packed)
        return self._context.state_bytes(slot.id) if slot.spans else 0

    def _can_go(self, slot: Slot) -> bool:
        """Whether all that it holds comes back with its state; images keep other accounts."""
        return not slot.extra
