"""What of a prompt needn't be evaluated, because it is in the KV cache or will be soon.

A request starts with the longest beginning of its prompt that any slot holds, busy or idle. It
continues an idle slot whose tail is of little use, or shares the cells and leaves the other as it
is. When another prompt that is being evaluated has more in common with it, it waits for that part
instead of evaluating it too: of eight that arrive together, one does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from . import cells
from .clearing import evict
from .llama import Context
from .packing import Packing
from .prefix import common_prefix, reusable_prefix
from .sequence import UNTOUCHED, Sequence
from .slots import Slot, Slots
from .snapshots import Snapshots
from .warmth import Warmth

HEADROOM: Final = 32  # cells for its answer that a request must find to be admitted
LEAST_AWAITED: Final = 64  # fewer tokens aren't worth to wait for


class Reuse:
    """Gives slots to sequences, and keeps account of the cells."""

    def __init__(
        self,
        context: Context,
        snapshots: Snapshots | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake` is called, from another thread, when what `look_up` found has been read."""
        self._context = context
        self.slots = Slots(context.n_slots)
        self._packing = Packing(context, self.slots)
        self._warmth = Warmth(context, self.slots, snapshots, wake) if snapshots else None

    # Taking a slot ------------------------------------------------------------------------------

    def look_up(self, sequence: Sequence, running: list[Sequence]) -> None:
        """Has the disk searched for a beginning of `sequence` that the cache doesn't have."""
        if self._warmth is not None and not sequence.scores:
            _, shared = self._best(sequence, running)
            sequence.stored = self._warmth.find(sequence.tokens, shared)

    def pack(self, sequence: Sequence) -> None:
        """Clears the cache of idle conversations for `sequence`, which is to run alone.

        One that shall repeat begins with the first cell each time, as far as that is cheap: sums
        over cells are made in tiles and vectors, so where a token stands is a matter of rounding.
        Without flash attention, where each token's are, it is done whatever it takes.
        """
        if not sequence.repeatable:
            if self._packing.pays(len(sequence.tokens)):
                self._packing.pack()
            return
        source, shared = self._best(sequence, [])
        alone = source is not None and source is self.slots.sole
        if alone and self._seat_for(source, shared) is source:
            return
        if self._context.without_flash:
            self._packing.clear(source)
        else:
            self._packing.pack()

    def seat(self, sequence: Sequence, running: list[Sequence]) -> bool:
        """Gives `sequence` a slot with what is cached of its tokens; False when none is free."""
        self._bring_back(sequence, running)
        source, shared = self._best(sequence, running)
        slot = self._seat_for(source, shared)
        if slot is None:
            return False
        if source is not None and source.packed is not None:
            kept = self._packing.unpack(source, slot, shared)
        else:
            kept = self._cut(slot, shared if slot is source else 0, len(slot.cached))
        self.slots.take(slot)
        slot.grow(kept)
        sequence.slot, sequence.n_evaluated = slot, kept
        if source is not None and source is not slot:
            self._share(source, sequence, shared)
        self._choose_leader(sequence, running)
        return True

    def _bring_back(self, sequence: Sequence, running: list[Sequence]) -> None:
        """Puts what the disk had of `sequence` into an idle slot, unless the cache has as much.

        Others may have lost their cells for it, even if it came to nothing.
        """
        stored, sequence.stored = sequence.stored, None
        if self._warmth is not None and stored is not None:
            _, shared = self._best(sequence, running)
            self._warmth.bring_back(stored, sequence.tokens, shared)

    def _best(self, sequence: Sequence, running: list[Sequence]) -> tuple[Slot | None, int]:
        """The slot with the longest beginning of `sequence`, and how long that is."""
        if sequence.scores:
            return None, 0
        tokens = sequence.tokens
        found: list[tuple[int, Slot]] = [
            (slot.reusable(tokens), slot) for slot in self.slots.idle()
        ]
        if self._context.can_share:
            for other in running:
                if other.slot is not None and other is not sequence:
                    length = min(reusable_prefix(other.tokens, tokens), other.exact)
                    found.append((length if length >= other.slot.floor else 0, other.slot))
        length, slot = max(found, key=_preference, default=(0, None))
        return (slot, length) if length else (None, 0)

    def _seat_for(self, source: Slot | None, shared: int) -> Slot | None:
        """The slot to use: `source` when little of it is lost, else one to overwrite."""
        other = self.slots.spare((source,) if source else ())
        if source is None or source.busy:
            return other
        tail = len(source.cached) - shared
        costs = 2 * tail if self._context.can_share else tail * self._context.n_ctx
        return source if other is None or costs <= shared else other

    def _cut(self, slot: Slot, length: int, held: int) -> int:
        """Makes a slot of `held` tokens hold its first `length` ones; how many it holds then."""
        if length == 0 or (length < held and not self._context.remove(slot.id, length)):
            self._context.remove(slot.id, -1)  # a recurrent state is forgotten as a whole
            self.slots.empty(slot)
            return 0
        slot.shrink(length)
        slot.extra = cells.beyond(slot.cached[:length])
        return length

    def _share(self, source: Slot, sequence: Sequence, until: int) -> None:
        """Lets `sequence` use the cells of `source` up to position `until`."""
        slot, start = sequence.slot, sequence.n_evaluated
        if slot is None or until <= start or not self._context.can_share or source.packed:
            return
        self._context.share(source.id, slot.id, start, until)
        taken = cells.between(source.spans, start, until)
        slot.spans = (*cells.between(slot.spans, 0, start), *taken)
        slot.floor = max(slot.floor, source.floor)
        slot.extra += cells.beyond(sequence.tokens[start:until])
        sequence.n_evaluated = slot.guarded = until

    # Waiting for another's work -----------------------------------------------------------------

    def _choose_leader(self, sequence: Sequence, running: list[Sequence]) -> None:
        """Finds out whose prompt, under evaluation, has the most in common with `sequence`."""
        sequence.leader, sequence.awaited = None, 0
        if sequence.scores or not self._context.can_share:
            return
        for other in running:
            if other is sequence or other.leader is not None or other.generating:
                continue
            ahead = reusable_prefix(other.tokens, sequence.tokens)
            gain = ahead - max(sequence.n_evaluated, sequence.awaited)
            if ahead > other.n_evaluated and gain >= LEAST_AWAITED:
                sequence.leader, sequence.awaited = other, ahead

    def ready(self, sequence: Sequence, running: list[Sequence]) -> bool:
        """Whether `sequence` has no one to wait for; takes over what was waited for."""
        leader = sequence.leader
        if leader is None:
            return True
        if leader.slot is not None and leader.n_evaluated < sequence.awaited:
            return False
        source, shared = self._best(sequence, running)
        if source is not None:
            self._share(source, sequence, shared)
        self._choose_leader(sequence, running)
        return sequence.leader is None

    # Cells --------------------------------------------------------------------------------------

    def evaluated(self, sequence: Sequence, count: int, extra: int = 0) -> None:
        """Takes note that `count` more of its tokens are in the cache, in `extra` cells more."""
        slot = sequence.slot
        assert slot is not None
        slot.extra += extra
        sequence.n_evaluated += count
        slot.grow(sequence.n_evaluated)
        if count > 1 or sequence.n_evaluated - slot.guarded >= self._context.guard_every:
            self._guard(slot, sequence.n_evaluated)

    def release(self, sequence: Sequence) -> None:
        """Takes its slot back; what was evaluated stays there."""
        slot = sequence.slot
        assert slot is not None
        kept = self._cut(slot, sequence.exact, sequence.n_evaluated)
        self._guard(slot, kept)
        if not self._context.can_share:
            slot.floor = kept
        self.slots.give_back(slot, sequence.tokens[:kept])
        sequence.slot = sequence.leader = None

    def forget(self, sequence: Sequence) -> None:
        """Takes its slot and its cells back."""
        sequence.n_evaluated, sequence.pure = 0, UNTOUCHED
        self.release(sequence)

    def evict(self) -> bool:
        """Frees the cells of an idle slot; False when none has any."""
        return evict(self._context, self.slots)

    def has_room(self, sequence: Sequence, running: list[Sequence]) -> bool:
        """Whether `sequence` could run beside the others for a while, not be preempted at once."""
        if not running:
            return True
        busy = [slot for slot in self.slots.all if slot.busy]
        held = cells.count(slot.spans for slot in busy) + sum(slot.extra for slot in busy)
        to_come = sum(
            len(other.tokens) - max(other.n_evaluated, other.awaited) + HEADROOM
            for other in running
        )
        common = 0
        if self._context.can_share:
            common = max(common_prefix(other.tokens, sequence.tokens) for other in running)
        own = len(sequence.tokens) - common + HEADROOM + cells.beyond(sequence.tokens[common:])
        return held + to_come + own <= self._context.n_ctx

    def shift(self, sequence: Sequence, keep: int) -> None:
        """Drops old tokens after the first `keep`; evaluates the rest again where it is shared."""
        slot = sequence.slot
        assert slot is not None
        evaluated = sequence.n_evaluated
        dropped = sequence.drop_old(keep)
        for other in self.slots.sharing(slot, keep):
            if not other.busy:
                self._context.remove(other.id, -1)
                self.slots.empty(other)
        if self.slots.sharing(slot, keep):
            self._context.remove(slot.id, keep)
            sequence.n_evaluated = keep
        else:
            sequence.pure = min(sequence.pure, keep)
            self._guard(slot, evaluated)
            self._context.remove(slot.id, keep, keep + dropped)
            self._context.shift(slot.id, keep + dropped, -dropped)
        slot.shrink(keep)
        self.slots.take(slot)
        slot.grow(sequence.n_evaluated)
        slot.guarded = sequence.n_evaluated
        self.slots.sole = None

    def put_away(self) -> None:
        """Keeps what idle slots hold on the disk, for the next load of this model."""
        if self._warmth is not None:
            self._warmth.put_away()

    def clear(self) -> None:
        """Forgets everything; what the cache holds is unknown."""
        for slot in self.slots.all:
            self.slots.empty(slot)
        self._context.clear()

    def _guard(self, slot: Slot, end: int) -> None:
        if slot.guarded < end:
            self._context.guard(slot.id, slot.guarded, end)
            slot.guarded = end


def _preference(found: tuple[int, Slot]) -> tuple[int, bool, int]:
    """Of equal beginnings, one that needn't be copied."""
    length, slot = found
    return length, slot.packed is None, slot.used_at
