"""From logits to an answer: picks tokens, shows their text, knows when it is over.

advance()   one token of one sequence
verify()    the tokens that guesses behind it have saved steps for
finish()    its `Done`
"""

from __future__ import annotations

import time
from collections.abc import Callable

from . import wire
from .llama import Context
from .llama_error import LlamaError
from .logprobs import token_logprob
from .outbox import Outbox
from .reuse import Reuse
from .sequence import REPEATS_LIMIT, Sequence
from .vocabulary import Vocabulary


class Answering:
    """Lets sequences grow after a step. `release` takes back the slot of one that is over."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        context: Context,
        reuse: Reuse,
        outbox: Outbox,
        release: Callable[[Sequence], None],
    ) -> None:
        self._vocabulary = vocabulary
        self._context = context
        self._reuse = reuse
        self._outbox = outbox
        self._release = release

    def advance(self, sequence: Sequence, now_ns: int) -> None:
        """Picks the next token of one sequence and sends what it shows."""
        if not sequence.first_ns:
            sequence.first_ns = now_ns
        request = sequence.request
        if sequence.n_predict == 0:
            self.finish(sequence, "length")  # its prompt was all that mattered
            return
        try:
            token = sequence.sampler.pick(self._context, sequence.output)
        except LlamaError as error:
            self.fail(sequence, str(error))
            return
        if self._vocabulary.ends(token) and not request.options.ignore_eos:
            sequence.n_generated += 1  # the end was generated too, and Ollama counts it
            if sequence.scoring is not None:  # who scores a prompt counts tokens from the end
                self._outbox.put(wire.Chunk(request.id, "", 0, (self._scored(sequence, token),)))
            self.finish(sequence, "stop")
            return
        if request.logprobs >= 0:
            sequence.unsent.append(self._scored(sequence, token))
        self._append(sequence, token)
        if sequence.slot:
            self._append_forced(sequence)

    def score(self, sequence: Sequence, count: int) -> None:
        """Tells the log probabilities that come of `count` more tokens of its prompt."""
        assert sequence.scoring is not None
        entries = sequence.scoring.read(
            self._vocabulary,
            self._context,
            sequence.n_evaluated,
            count,
            sequence.request.logprobs,
        )
        self._outbox.put(wire.Chunk(sequence.request.id, "", 0, entries))

    def _scored(self, sequence: Sequence, token: int) -> wire.TokenLogprob:
        logits = self._context.logits(sequence.output)
        return token_logprob(self._vocabulary, logits, token, sequence.request.logprobs)

    def verify(self, sequence: Sequence, now_ns: int) -> None:
        """Picks tokens as long as the guesses behind them were right; takes the others back."""
        guesses, first, right = sequence.guesses, sequence.output, 0
        slot = sequence.slot
        assert slot is not None
        sequence.n_guessed += len(guesses)
        while sequence.slot is not None and not sequence.pending:
            sequence.output = first + right
            self.advance(sequence, now_ns)
            while sequence.slot is not None and sequence.came_true(guesses, right):
                self._reuse.evaluated(sequence, 1)
                right += 1
                sequence.n_guessed_right += 1
        if right < len(guesses):
            self._context.remove(slot.id, sequence.n_evaluated)
        sequence.judge(right)

    def finish(self, sequence: Sequence, reason: str) -> None:
        """Ends a request; its slot keeps what it evaluated.

        A character that the end cuts is read as U+FFFD, which may complete a stop string.
        """
        now = time.perf_counter_ns()
        rest = sequence.text.finish()
        if sequence.text.stopped_by:
            reason = "stop_sequence"
        if rest:
            entries = tuple(sequence.unsent)
            self._outbox.put(wire.Chunk(sequence.request.id, rest, sequence.n_unsent, entries))
        first = sequence.first_ns or now
        done = wire.Done(
            id=sequence.request.id,
            reason=reason,
            prompt_tokens=sequence.n_prompt,
            cached_tokens=sequence.n_cached,
            generated_tokens=sequence.n_generated,
            prompt_ns=first - (sequence.admitted_ns or now),
            generate_ns=now - first,
            stop_sequence=sequence.text.stopped_by,
            context=tuple(sequence.tokens) if sequence.request.return_context else (),
            drafted_tokens=sequence.n_guessed,
            accepted_tokens=sequence.n_guessed_right,
        )
        self._release(sequence)
        self._outbox.put(done)

    def fail(self, sequence: Sequence, message: str) -> None:
        """Ends a request with an error."""
        sequence.pure = 0  # what its cells hold is of no use to others
        self._release(sequence)
        self._outbox.put(wire.Failed(sequence.request.id, "decode_failed", message))

    def _append(self, sequence: Sequence, token: int, *, forced: bool = False) -> None:
        """Adds a token to an answer, which may end with it."""
        sequence.append(token, forced=forced)
        self._show(
            sequence, sequence.text.feed(self._vocabulary.piece(token, sequence.request.special))
        )
        if sequence.text.stopped_by:
            self.finish(sequence, "stop_sequence")
        elif sequence.n_generated >= sequence.n_predict:
            self.finish(sequence, "length")
        elif sequence.repeats >= REPEATS_LIMIT and not sequence.request.options.ignore_eos:
            self.finish(sequence, "length" if sequence.sampler.unfinished else "stop")

    def _append_forced(self, sequence: Sequence) -> None:
        """Adds what the answer's constraint leaves no choice about; it may be complete then."""
        for token in sequence.following():
            if sequence.slot:
                self._append(sequence, token, forced=True)
        if sequence.slot and sequence.sampler.complete:
            self.finish(sequence, "stop")

    def _show(self, sequence: Sequence, text: str) -> None:
        sequence.n_unsent += 1
        if text:
            chunk = wire.Chunk(sequence.request.id, text, sequence.n_unsent, tuple(sequence.unsent))
            self._outbox.put(chunk)
            sequence.n_unsent = 0
            sequence.unsent.clear()
