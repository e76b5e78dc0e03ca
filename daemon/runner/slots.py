"""Slots: the sequences of one unified KV cache, what each holds and who uses it.

A slot that no request uses keeps its cells, so that the next request with the same beginning
needn't evaluate it again. When cells run short, the longest unused ones go first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .prefix import reusable_prefix, worth_reusing


@dataclass(slots=True)
class Slot:
    """One sequence id of the KV cache. `cached` holds the tokens in its cells, while it is idle."""

    id: int
    cached: list[int] = field(default_factory=list)
    busy: bool = False
    used_at: int = 0  # a count of uses, not a time


class Slots:
    """The slots of one context."""

    def __init__(self, count: int) -> None:
        self.all = [Slot(number) for number in range(count)]
        self._uses = 0

    def idle(self) -> list[Slot]:
        return [slot for slot in self.all if not slot.busy]

    def take(self, prompt: list[int]) -> tuple[Slot, int] | None:
        """The idle slot that suits `prompt` best, and how much of it is cached there.

        The longest shared beginning wins; without one, an empty slot, then the longest unused.
        """
        idle = self.idle()
        if not idle:
            return None
        worth = {slot.id: worth_reusing(slot.cached, prompt) for slot in idle}
        best = max(idle, key=lambda slot: (worth[slot.id], not slot.cached, -slot.used_at))
        best.busy = True
        return best, reusable_prefix(best.cached, prompt)

    def give_back(self, slot: Slot, cached: list[int]) -> None:
        """Makes `slot` idle; it holds `cached` from now on."""
        self._uses += 1
        slot.busy, slot.cached, slot.used_at = False, cached, self._uses

    def cached_cells(self) -> int:
        """Cells that idle slots hold."""
        return sum(len(slot.cached) for slot in self.all if not slot.busy)

    def evict(self) -> Slot | None:
        """Empties the longest unused idle slot; None when nothing is left to evict."""
        holding = [slot for slot in self.idle() if slot.cached]
        if not holding:
            return None
        oldest = min(holding, key=lambda slot: slot.used_at)
        oldest.cached = []
        return oldest
