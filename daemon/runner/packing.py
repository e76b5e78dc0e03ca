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

MOST_BYTES: Final = 32 << 20  # packed at once to gain time; larger models gain little
KEPT_BYTES: Final = 128 << 20  # of all that is packed
_STEP: Final = 256  # cells; llama.cpp looks at so many more at a time
_ANSWER: Final = 128  # tokens that one is expected to have


class Packing:
    """For the slots of one context."""

    def __init__(self, context: Context, slots: Slots) -> None:
        self._context = context
        self._slots = slots

    def pays(self, n_tokens: int) -> bool:
        """Whether a prompt of `n_tokens` and its answer gain more by `pack` than it takes."""
        held = self._slots.most_cells
        return held > n_tokens and held + n_tokens + _ANSWER > _STEP

    def pack(self) -> None:
        """Empties the cache, while no slot is busy, unless that takes too much memory.

        All goes or nothing, so that what is evaluated next begins with the first cell.
        """
        holding = self._slots.holding
        possible = self._context.on_host and self._context.can_share
        if not (possible and all(map(self._can_go, holding))):
            return
        going = sum(map(self._bytes, holding))
        kept = sum(len(slot.packed) for slot in self._slots.all if slot.packed)
        if going <= MOST_BYTES and going + kept <= KEPT_BYTES:
            self._take_out(holding)

    def clear(self, source: Slot | None) -> None:
        """Empties the cache whatever that takes, while no slot is busy.

        `source` is packed, or stays if it can't be. Of all others the last used are packed, and
        what would take too much memory is lost: its next turn evaluates it again. All stay where
        one can't go: to look at its images again would take longest.
        """
        others = [slot for slot in self._slots.holding if slot is not source]
        if not self._context.on_host or not all(map(self._can_go, others)):
            return
        room = KEPT_BYTES
        for slot in sorted(self._slots.idle(), key=lambda slot: -slot.used_at):
            if slot is source:
                continue
            room -= self._bytes(slot)
            if room < 0:
                self._context.remove(slot.id, -1)
                self._slots.empty(slot)
        self._take_out([slot for slot in self._slots.holding if self._can_go(slot)])

    def unpack(self, source: Slot, slot: Slot, length: int) -> int:
        """Puts the first `length` tokens of a packed slot into an idle one, maybe the same, that
        is about to be taken; how many it holds then, which is none where they don't fit.
        """
        packed, held, scattered = source.packed, len(source.cached), source.scattered
        assert packed is not None
        self._context.remove(slot.id, -1)
        self._slots.empty(slot)
        fits = clear_for(held, self._context, self._slots)
        whole = fits and self._context.restore(slot.id, packed)
        if whole and length < held:
            self._context.remove(slot.id, length)
            whole = not scattered or self._close_gaps(slot)
        if not whole:
            self._context.remove(slot.id, -1)
            return 0
        slot.guarded, slot.scattered = length, scattered
        return length

    def _close_gaps(self, slot: Slot) -> bool:
        """Moves what is left of a slot to the first cells, if these are free; whether it is whole.

        The end, which was cut, may have stood before the beginning: tokens that were evaluated
        beside others fill what gaps there are.
        """
        if self._slots.holding:
            return True
        state = self._context.state(slot.id)
        self._context.clear()
        return self._context.restore(slot.id, state)

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
