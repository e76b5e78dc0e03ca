"""Guesses of a small model for a large one: it reads along, and runs ahead where that is asked for.

Both have the same vocabulary and the same slots. Its cache follows an answer's tokens as far as
they are asked about; what was guessed wrong is taken back when the next guess is due.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from typing import Final

from qm.modelfiles.build.draft import MOST_MISSING

from ..companions import draft_placement
from . import wire
from .llama import Batch, Context
from .llama_error import LlamaError
from .llama_log import Log
from .prefix import reusable_prefix
from .sequence import Sequence
from .vocabulary import Vocabulary
from .weights import Model

READ_AT_ONCE: Final = 256  # tokens of a prompt; answers wait meanwhile
LEAST_SURE: Final = 0.6  # what is less likely, in the small model's eyes, is no guess
_SPOT_CHECKS: Final = 97  # of so many tokens one is compared; `qm create` compared all
_READS_ALONG: Final = 16  # new tokens; more are a prompt, and tell nothing of what guesses take
_SMOOTHING: Final = 0.2


class Draft:
    """A loaded draft model. `guess_s` is what a guess takes to make, 0 until one was made."""

    def __init__(self, path: str, model: Model, placement: wire.Placement, log: Log) -> None:
        """Raises LlamaError, also for a model that can't guess for `model`."""
        own = draft_placement(placement)
        self._model = Model((path,), own, lambda _fraction: True, log)
        _check(model.vocabulary, self._model)
        self.context = Context(self._model, own, log, embedding=False)
        self.guess_s = 0.0
        self._batch = Batch(self.context.n_batch)
        self._held: dict[int, list[int]] = {}  # the tokens in its cache, by slot
        self._size = min(model.vocabulary.size, self._model.vocabulary.size)

    def guess(self, asked: Several[tuple[Sequence, int]]) -> list[tuple[int, ...]]:
        """Up to so many tokens that may follow each sequence; fewer where it is unsure."""
        started = time.perf_counter()
        runs = [_Run(_slot(sequence), count) for sequence, count in asked]
        n_read = 0
        for run, (sequence, _) in zip(runs, asked, strict=True):
            n_read += self._read(run, sequence.tokens)
        while open_ := [run for run in runs if run.open]:
            self._extend(open_)
        made = sum(len(run.found) for run in runs)
        if made and n_read <= _READS_ALONG * len(runs):
            self._learn((time.perf_counter() - started) / made)
        return [tuple(run.found) for run in runs]

    def free(self) -> None:
        self.context.free()
        self._model.free()

    def _read(self, run: _Run, tokens: list[int]) -> int:
        """Catches up with `tokens`, at most a part of them at once; how many were new."""
        held = self._held.setdefault(run.slot, [])
        keep = reusable_prefix(held, tokens)
        if keep < len(held):
            self.context.remove(run.slot, keep)
            del held[keep:]
        new = tokens[keep : keep + min(READ_AT_ONCE, self.context.n_batch)]
        self._batch.clear()
        row = self._batch.add_many(new, keep, run.slot, output=True)
        if not self._decoded():
            run.open = False
            return len(new)
        held += new
        run.open = len(held) == len(tokens)
        if run.open:
            self._take(run, row)
        return len(new)

    def _extend(self, runs: list[_Run]) -> None:
        """One more guess for each."""
        self._batch.clear()
        for run in runs:
            held = self._held[run.slot]
            self._batch.add_one(run.found[-1], len(held), run.slot)
            held.append(run.found[-1])
        decoded = self._decoded()
        for row, run in enumerate(runs):
            run.open = decoded
            if decoded:
                self._take(run, row)

    def _take(self, run: _Run, row: int) -> None:
        """The likeliest token, where it is likely enough."""
        import numpy as np  # noqa: PLC0415  20 MB that runners without a draft model do without

        logits = np.ctypeslib.as_array(self.context.logits(row), (self._size,))
        token = int(logits.argmax())
        if float(np.exp(logits - logits[token]).sum()) * LEAST_SURE > 1:
            run.open = False
            return
        run.found.append(token)
        run.open = len(run.found) < run.count

    def _decoded(self) -> bool:
        """Evaluates the batch; a cache without room is emptied, and filled again when needed."""
        if self.context.decode(self._batch):
            self.context.clear()
            for held in self._held.values():
                held.clear()
            return False
        return True

    def _learn(self, seconds: float) -> None:
        before = self.guess_s or seconds
        self.guess_s = before + _SMOOTHING * (seconds - before)


@dataclass(slots=True)
class _Run:
    """Guesses that are being made for one slot."""

    slot: int
    count: int
    found: list[int] = field(default_factory=list)
    open: bool = False


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None
    return sequence.slot.id


def _check(ours: Vocabulary, draft: Model) -> None:
    theirs = draft.vocabulary
    if draft.is_recurrent or not draft.has_decoder:
        raise LlamaError("unsupported", "the draft model is of a kind that can't take tokens back")
    marks = [(one.bos, one.eos, one.add_bos) for one in (ours, theirs)]
    shared = min(ours.size, theirs.size)
    same = abs(ours.size - theirs.size) <= MOST_MISSING and marks[0] == marks[1]
    if not same or any(
        ours.piece(token, special=True) != theirs.piece(token, special=True)
        for token in range(0, shared, _SPOT_CHECKS)
    ):
        raise LlamaError(
            "unsupported",
            "the draft model has another vocabulary than the model; it must be of the same family",
        )
