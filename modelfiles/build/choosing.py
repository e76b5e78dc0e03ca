"""Carries `QUANTIZE auto` out: converts, predicts sizes, makes and measures what fits, chooses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qm.store.gguf import Header, read_header

from ..quantization import Quantize
from .automatic import CHUNKS, Candidate, Choice, Room, best, considered, fitting
from .plan import Given, Plan, Tools, Wishes, plan
from .steps import predicted_sizes
from .workshop import Workshop


@dataclass(frozen=True, slots=True)
class Chosen:
    """The plan that was carried out for the type that was chosen, and why it was chosen."""

    plan: Plan
    choice: Choice


@dataclass(frozen=True, slots=True)
class Chooser:
    """Everything that a choice is made from; `wishes.quantize` has the type AUTO."""

    workshop: Workshop
    wishes: Wishes
    tools: Tools
    room: Room
    text: str  # digest of what candidates are measured over

    def choose(self, given: Given) -> Chosen:
        """Performs every step. Raises NoTypeFits, Requantizing and what steps raise."""
        wish = self.wishes.quantize
        assert wish is not None
        first = plan(given, replace(self.wishes, quantize=None, evaluation=""), self.tools)
        self._perform(first)
        headers = [read_header(self.workshop.path(part)) for part in first.weights]
        kind = headers[0].file_type_name or given.type
        base = Given(weights=first.weights, type=kind, generates=given.generates)
        with_imatrix = bool(self.wishes.imatrix) or (self.wishes.use_imatrix and given.generates)
        types = considered(wish, with_imatrix=with_imatrix)
        self._planned(base, types[0])  # refuses what is quantised already
        sizes = list(zip(types, predicted_sizes(self.workshop, first.weights, types), strict=True))
        made = self._made(base, headers, sizes)
        plans = [planned for _, planned in made]
        measured = [quality for each in plans if (quality := self.workshop.measured(each.steps))]
        choice = best([each[0] for each in made], measured, self.room)
        chosen = self._planned(base, choice.candidate.quantize, chunks=self._chunks)
        self._perform(chosen)  # done already, but for an evaluation of the whole text
        self.workshop.on_progress({"status": f"chose {choice.candidate.quantize.type}"})
        return Chosen(Plan(chosen.steps, chosen.weights, first.adapters), choice)

    @property
    def _chunks(self) -> int:
        """How much of the text the chosen type is measured over."""
        return self.wishes.chunks if self.wishes.evaluation else CHUNKS

    def _made(
        self, base: Given, headers: Sequence[Header], sizes: Sequence[tuple[Quantize, int]]
    ) -> list[tuple[Candidate, Plan]]:
        """Candidates whose true size fits too, with the plans that were performed for them."""
        while True:
            candidates = fitting(sizes, headers, self.room)
            made = [pair for each in candidates for pair in self._tried(base, headers, each)]
            if made:
                return made
            tried = {each.quantize for each in candidates}
            sizes = [each for each in sizes if each[0] not in tried]

    def _tried(
        self, base: Given, headers: Sequence[Header], candidate: Candidate
    ) -> Iterator[tuple[Candidate, Plan]]:
        planned = self._planned(base, candidate.quantize)
        self._perform(planned)
        made = [read_header(self.workshop.path(part)) for part in planned.weights]
        size_bytes = sum(header.weights_bytes for header in made)
        if placed := self.room.fits(headers, size_bytes, self.room.n_ctx):
            yield replace(candidate, size_bytes=size_bytes, placed=placed), planned

    def _planned(self, base: Given, quantize: Quantize, chunks: int = CHUNKS) -> Plan:
        measured = self.text if base.generates else ""
        wishes = replace(self.wishes, quantize=quantize, evaluation=measured, chunks=chunks)
        return plan(base, wishes, self.tools)

    def _perform(self, planned: Plan) -> None:
        done = {each.step.key for each in self.workshop.done}
        for step in planned.steps:
            if step.key not in done:
                self.workshop.perform(step)
