"""Several tokens in one step: guesses beside the token that is due, kept as far as they are right.

Guesses come from the text itself (`lookup`) or from a draft model. Each token is picked by the
answer's own sampler from logits behind the tokens before it, so guesses decide how soon a token
comes and never which.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Final

from .draft import Draft
from .exactness import Exactness
from .llama import Batch, Context
from .payoff import StepCosts, allot
from .sequence import FIRST_DRAFT_TRUST, Sequence
from .wire import Speculate

USUAL_GUESSES: Final = 4  # where the request doesn't say
FIRST_PAUSE: Final = 256  # steps until a draft model that didn't pay is tried again; then twice it


class Speculation:
    """Decides which guesses are tried; for one context."""

    def __init__(
        self, context: Context, batch: Batch, mode: Speculate, draft: Draft | None = None
    ) -> None:
        self._mode = mode if context.can_roll_back else Speculate.OFF
        self._n_outputs = min(context.n_outputs, batch.room)
        self._exactness = Exactness(context, batch)
        self._costs = StepCosts()
        self._draft = draft
        self._pause = FIRST_PAUSE
        self._resting = 0  # steps that the draft model is left alone

    def plan(
        self, generating: Several[Sequence], cells: int, *, sole: bool, beside_prompts: bool
    ) -> int:
        """Sets what each shall try, and tells how many tokens that is in all.

        `cells` are in the cache at most, all of one answer if it is the `sole` one. Beside prompts
        there is no time to spare.
        """
        if self._mode is Speculate.OFF:
            return 0
        for sequence in generating:
            sequence.guesses = ()
            sequence.lookup.read(sequence.tokens)
        if beside_prompts or not generating or not (sole or self._may_differ(generating)):
            return 0
        return self._look_up(generating, cells) or self._ask_draft(generating, cells)

    def learn(self, n_tokens: int, seconds: float) -> None:
        """What a step without prompts took."""
        if self._mode is not Speculate.OFF:
            self._costs.learn(n_tokens, seconds)

    def _may_differ(self, generating: Several[Sequence]) -> bool:
        """Whether nobody minds where in the cache tokens stand.

        A wrong guess leaves a gap there, which the next token of another answer may fill: before
        its own others, so that sums over them go in another order, and round otherwise.
        """
        return self._mode is Speculate.FAST or not any(one.repeatable for one in generating)

    def _look_up(self, generating: Several[Sequence], cells: int) -> int:
        most = [_most(one) if one.lookup.found else 0 for one in generating]
        if not any(most):
            return 0
        trusts = [sequence.lookup.trust for sequence in generating]
        counts = self._worth(trusts, most, 0.0)
        if not any(counts):
            return 0
        for sequence, count in zip(generating, self._exact(generating, counts, cells), strict=True):
            if count:
                sequence.guesses = tuple(sequence.lookup.guess(sequence.tokens, count))
                sequence.drafted = False
        return sum(len(sequence.guesses) for sequence in generating)

    def _ask_draft(self, generating: Several[Sequence], cells: int) -> int:
        if self._draft is None:
            return 0
        if self._resting:
            self._resting -= 1
            return 0
        most = [0 if one.media else _most(one) for one in generating]
        if not any(most):
            return 0
        trusts = [sequence.draft_trust for sequence in generating]
        counts = self._worth(trusts, most, self._draft.guess_s)
        if not any(counts):
            self._rest(generating)
            return 0
        counts = self._exact(generating, counts, cells)
        asked = [(one, count) for one, count in zip(generating, counts, strict=True) if count]
        if asked:
            for (sequence, _), guesses in zip(asked, self._draft.guess(asked), strict=True):
                sequence.guesses, sequence.drafted = guesses, True
        return sum(len(sequence.guesses) for sequence in generating)

    def _rest(self, generating: Several[Sequence]) -> None:
        """Leaves a draft model alone that doesn't pay, for longer each time."""
        self._resting, self._pause = self._pause, 2 * self._pause
        for sequence in generating:
            sequence.draft_trust = FIRST_DRAFT_TRUST

    def _worth(self, trusts: list[float], most: list[int], guess_s: float) -> list[int]:
        """How many guesses each should have, of `most`."""
        room = self._n_outputs - len(most)
        if self._mode is not Speculate.ALWAYS:
            most = [min(one, room) for one in most]
            most = allot(trusts, most, len(most), self._costs, guess_s=guess_s)
        return _within(most, room)

    def _exact(self, generating: Several[Sequence], counts: list[int], cells: int) -> list[int]:
        """As many as leave every answer that can be asked for again as it is."""
        if self._may_differ(generating):
            return counts
        total = len(generating) + sum(counts)
        if self._exactness.unknown(cells, total):
            one_more = len(generating) + 1
            if self._mode is not Speculate.ALWAYS and not self._costs.knows(one_more):
                # A trial takes long, and where another token costs much it is of no use.
                seconds = self._exactness.time(*_end(generating[0], one_more))
                self._costs.learn(one_more, seconds)
                return [0] * len(counts)
            self._exactness.find_out(cells, *_end(generating[0], total))
        most = self._exactness.most(cells, total)
        return _within(counts, max(0, most - len(generating)))


def _within(counts: list[int], room: int) -> list[int]:
    """The counts, the later ones cut where together they exceed `room`."""
    kept = []
    for count in counts:
        kept.append(max(0, min(count, room)))
        room -= kept[-1]
    return kept


def _end(sequence: Sequence, n_tokens: int) -> tuple[int, int, list[int]]:
    """Its slot, its end there, and `n_tokens` of its text that could come next."""
    text = [token for token in sequence.tokens[-n_tokens:] if token >= 0]
    assert sequence.slot is not None
    return sequence.slot.id, sequence.n_evaluated, [text[0]] * (n_tokens - len(text)) + text


def _wanted(sequence: Sequence) -> int:
    asked = sequence.request.options.draft_num_predict
    return USUAL_GUESSES if asked is None else asked


def _most(sequence: Sequence) -> int:
    """Guesses that the request, its context and its end leave room for."""
    to_come = sequence.n_predict - sequence.n_generated - 1
    return max(0, min(_wanted(sequence), to_come, sequence.limit - len(sequence.tokens)))
