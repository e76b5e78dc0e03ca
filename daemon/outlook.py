"""What else would fit: a longer context, other quantisations. Pure, by our own count."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from .devices import Devices
from .facts import ModelFacts
from .fit import fit
from .placing import DoesNotFit, Fit, Room, Wanted, mib
from .questions import Question
from .runner.wire import Options

QUANT_BITS = {  # a weight, on average over a model of usual shape
    "Q2_K": 3.0,
    "Q3_K_M": 3.9,
    "Q4_K_M": 4.85,
    "Q5_K_M": 5.7,
    "Q6_K": 6.6,
    "Q8_0": 8.5,
    "F16": 16.0,
}


@dataclass(frozen=True, slots=True)
class QuantOutlook:
    """About what a quantisation would weigh, and how many layers would be on GPUs.

    `n_gpu_layers` is None where it would not fit at all.
    """

    name: str
    weights_bytes: int
    n_gpu_layers: int | None
    n_layers: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """All that `qm plan` tells. `most_context` is what would fit without costing anything else."""

    fit: Fit
    most_context: int
    quants: tuple[QuantOutlook, ...]
    devices: Devices


@dataclass(frozen=True, slots=True)
class Alternatives:
    """To a question, on these devices, with what holds where nothing is wished."""

    question: Question
    rooms: tuple[Room, ...]
    wanted: Wanted

    def longest(self, found: Fit) -> int:
        """The longest context of this placement that costs nothing else."""
        placement = found.placement
        most = self._with_any_context(placement.kv_type, placement.n_ctx)
        return max(placement.n_ctx, most.placement.n_ctx if most else 0)

    def quants(self) -> tuple[QuantOutlook, ...]:
        """What each quantisation would weigh, and where it would go."""
        return tuple(self._quant(name, bits) for name, bits in QUANT_BITS.items())

    def told(self) -> str:
        """What would fit where what was asked for does not."""
        less = self._with_any_context(self.question.wishes.kv_type, 1)
        context = (
            f"it would fit with a context of {less.placement.n_ctx}"
            if less
            else "no context makes it fit"
        )
        fitting = [
            f"{one.name} (about {mib(one.weights_bytes)})"
            for one in self.quants()
            if one.n_gpu_layers is not None
        ]
        of_them = f"these would: {', '.join(fitting)}" if fitting else "none would"
        return f"As it is {context}; of its quantisations {of_them}"

    def _quant(self, name: str, bits: float) -> QuantOutlook:
        facts = self.question.facts.at_bits(bits)
        found = self._tried(facts, self.question.wishes, self.wanted)
        n_gpu_layers = found.n_gpu_layers if found else None
        return QuantOutlook(name, facts.weights_bytes, n_gpu_layers, len(facts.layers) + 1)

    def _with_any_context(self, kv_type: str | None, least: int) -> Fit | None:
        free = msgspec.structs.replace(self.question.wishes, num_ctx=None, kv_type=kv_type)
        open_end = Wanted(0, self.wanted.n_parallel, least_context=least, shares_memory=False)
        return self._tried(self.question.facts, free, open_end)

    def _tried(self, facts: ModelFacts, wishes: Options, wanted: Wanted) -> Fit | None:
        try:
            return fit(facts, self.question.machine, wishes, wanted, rooms=self.rooms)
        except DoesNotFit:
            return None
