"""Slots: the sequences of one unified KV cache, what each holds and who uses it.

There are more of them than requests that run at once. A slot that no request uses keeps its cells,
so that the next request with the same beginning needn't evaluate it again. When cells run short,
the longest unused ones go first.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from . import cells
from .cells import Spans
from .prefix import reusable_prefix


@dataclass(slots=True, eq=False)
class Slot:
    """One sequence id of the KV cache. `cached` holds the tokens in its cells, while it is idle.

    `floor` is the least number of tokens that can be reused: less of it was never stored.
    `packed` is what was in its cells, where they were taken from it; see `packing`.
    """

    id: int
    cached: list[int] = field(default_factory=list)
    busy: bool = False
    used_at: int = 0  # a count of uses, not a time
    spans: Spans = ()
    extra: int = 0  # cells that images have beyond one a position
    origin: int = 0
    floor: int = 0
    guarded: int = 0  # positions up to here can't be overwritten
    packed: bytearray | None = None
    scattered: bool = False  # its tokens may stand in another order than they come

    def grow(self, end: int) -> None:
        """Its user has evaluated all positions up to `end`."""
        self.spans = cells.grown(self.spans, self.origin, end)

    def shrink(self, end: int) -> None:
        """Cells from position `end` on are no longer its own."""
        self.spans = cells.between(self.spans, 0, end)
        self.guarded = min(self.guarded, end)

    def reusable(self, prompt: list[int]) -> int:
        """How much of `prompt` an idle slot has."""
        length = reusable_prefix(self.cached, prompt)
        return length if length >= self.floor else 0


class Slots:
    """The slots of one context.

    `sole` has had the cache for itself since that was empty: its tokens stand in order, from the
    first cell on.
    """

    def __init__(self, count: int) -> None:
        self.all = [Slot(number) for number in range(count)]
        self.sole: Slot | None = None
        self._uses = 0
        self._origins = 0

    def idle(self) -> list[Slot]:
        return [slot for slot in self.all if not slot.busy]

    @property
    def holding(self) -> list[Slot]:
        """Those that have cells."""
        return [slot for slot in self.all if slot.spans]

    def spare(self, but: Collection[Slot] = ()) -> Slot | None:
        """An idle slot to overwrite: an empty one, else the longest unused."""
        idle = (slot for slot in self.all if not slot.busy and slot not in but)
        return min(idle, key=lambda slot: (bool(slot.cached), slot.used_at), default=None)

    def take(self, slot: Slot) -> None:
        """Marks it as used; what is evaluated in it from now on is its own."""
        self._origins += 1
        slot.busy, slot.origin = True, self._origins
        beside = any(one.busy or one.spans for one in self.all if one is not slot)
        self.sole = slot if not beside and (self.sole is slot or not slot.spans) else None

    def give_back(self, slot: Slot, cached: list[int]) -> None:
        """Makes `slot` idle; it holds `cached` from now on."""
        self._uses += 1
        slot.scattered |= slot is not self.sole
        slot.busy, slot.cached, slot.used_at = False, cached, self._uses
        slot.extra = cells.beyond(cached)
        slot.shrink(len(cached))

    @property
    def most_cells(self) -> int:
        """What all slots hold, each cell counted as often as it is held."""
        return sum(slot.spans[-1].end + slot.extra for slot in self.all if slot.spans)

    def cells_fit(self, room: int) -> bool:
        """Whether what all slots hold, each cell counted once, is at most `room`.

        Those that share an image count its extra cells each.
        """
        if self.most_cells <= room:
            return True
        extra = sum(slot.extra for slot in self.all)
        return cells.count(slot.spans for slot in self.all) + extra <= room

    def evict(self) -> Slot | None:
        """Empties the longest unused idle slot; None when nothing is left to evict."""
        holding = [slot for slot in self.holding if not slot.busy]
        if not holding:
            return None
        oldest = min(holding, key=lambda slot: slot.used_at)
        self.empty(oldest)
        return oldest

    def empty(self, slot: Slot) -> None:
        """Nothing of it is in the cache any more."""
        slot.cached, slot.floor, slot.extra = [], 0, 0
        slot.packed, slot.scattered = None, False
        slot.shrink(0)

    def sharing(self, slot: Slot, start: int) -> list[Slot]:
        """Other slots that hold cells of `slot` from position `start` on."""
        mine = cells.between(slot.spans, start, 1 << 62)
        return [
            other for other in self.all if other is not slot and cells.shared(mine, other.spans)
        ]
