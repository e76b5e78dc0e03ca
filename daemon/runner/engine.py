"""The decoding loop: many answers at once, through one unified KV cache.

    run():   take what arrived → admit → step → send, until told to leave
    step():  plan a batch → decode it → one token for every sequence that got logits

Every running sequence holds a slot. Answers under way get one token in each step; prompts are fed
in chunks beside them (`batching`). When cells run out, idle slots are emptied first; then the
newest sequence gives its cells back and waits to be evaluated again.

A loop that has nothing to do sleeps in its inbox.
"""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from contextlib import suppress
from queue import Empty
from typing import Final

from ..turns import Turns
from . import attention, cells, wire
from .answering import Answering
from .batching import FINE_GRAIN, GRAIN, Pace, shares
from .draft import Draft
from .embedding import Embedder, EmbedWork
from .intake import Intake, Woken, Work
from .llama import Batch, Context
from .llama_error import LlamaError
from .outbox import Outbox
from .reuse import Reuse
from .sequence import Sequence
from .speculation import Speculation
from .weights import Model

FRESH_TOKENS: Final = 64  # an answer that is shorter gets its turns sooner
STILL_S: Final = 0.3  # without work: whoever asks one thing after the other is quicker
_NO_ROOM: Final = 1  # what llama_decode returns when cells are short


class Engine:
    """Owns the context, the slots and the sequences; runs on the main thread."""

    def __init__(
        self,
        connection: socket.socket,
        intake: Intake,
        model: Model,
        context: Context,
        *,
        reuse: Reuse,
        turns: Turns,
        speculate: wire.Speculate = wire.Speculate.OFF,
        draft: Draft | None = None,
    ) -> None:
        self._outbox = Outbox(connection)
        self._inbox = intake.inbox
        self._vocabulary = model.vocabulary
        self._context = context
        self._batch = Batch(context.n_batch)
        self._reuse = reuse
        self._answers = Answering(model.vocabulary, context, reuse, self._outbox, self._release)
        self._running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()
        self._embeds = Embedder(model, context, self._batch)
        self._pace = Pace(
            grain=FINE_GRAIN if context.without_flash else GRAIN,
            fine=context.without_flash or attention.takes_parts(model.head_width),
        )
        self._speculation = Speculation(context, self._batch, speculate, draft)
        self._turns = turns
        self._leaving = False

    def run(self) -> None:
        """Works until `Exit` arrives."""
        while not self._leaving:
            self._take()
            self._admit()
            if self._embeds:
                self._embed()
            if self._running:
                self._step()
            self._outbox.flush()
        for sequence in [*self._running, *self._waiting]:
            self._answers.finish(sequence, "cancelled")
        self._outbox.flush()

    # What arrived -------------------------------------------------------------------------------

    def _take(self) -> None:
        """Handles everything in the inbox; waits for something when there is no work."""
        if not (self._running or self._seatable() or self._embeds):
            self._turns.rest()
            self._handle(self._rest())
        while not self._inbox.empty():
            self._handle(self._inbox.get())

    def _rest(self) -> Work:
        """Waits for something to do; a rest of some length is for what later answers gain by."""
        if self._context.greedy.due:
            with suppress(Empty):
                return self._inbox.get(timeout=STILL_S)
            self._context.greedy.fetch()
        return self._inbox.get()

    def _handle(self, work: Work) -> None:
        match work:
            case Sequence():
                self._reuse.look_up(work, self._running)
                self._waiting.append(work)
            case EmbedWork():
                self._add_embed(work)
            case wire.Cancel():
                self._cancel(work.id)
            case wire.Ping():
                self._outbox.put(wire.Pong(work.id, len(self._running)))
            case Woken():
                pass
            case wire.Exit():
                self._leaving = True
            case wire.Load():
                self._outbox.put(wire.Failed(work.id, "load_failed", "a model is loaded already"))
            case _:
                self._outbox.put(work)

    def _cancel(self, request_id: int) -> None:
        self._embeds.cancel(request_id)
        for sequence in [*self._running, *self._waiting]:
            if sequence.request.id == request_id:
                self._answers.finish(sequence, "cancelled")

    # Admission ----------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Gives free slots to waiting requests, to clients with the fewest running ones first."""
        while len(self._running) < self._context.n_parallel and (seatable := self._seatable()):
            load = Counter(sequence.request.client for sequence in self._running)
            sequence = min(seatable, key=lambda waiting: load[waiting.request.client])
            if not self._running:
                self._reuse.pack(sequence)
            if not (
                self._reuse.has_room(sequence, self._running)
                and self._reuse.seat(sequence, self._running)
            ):
                return
            self._waiting.remove(sequence)
            self._running.append(sequence)
            if sequence.leader is None:
                self._begin(sequence)

    def _seatable(self) -> list[Sequence]:
        """Who waits for a slot alone, not for the disk."""
        return [one for one in self._waiting if one.stored is None or one.stored.ready]

    def _begin(self, sequence: Sequence) -> None:
        """Tells once what of the prompt was cached."""
        if sequence.admitted_ns:
            return
        cached = sequence.n_evaluated
        sequence.admitted_ns = time.perf_counter_ns()
        sequence.n_cached = cached + cells.beyond(sequence.tokens[:cached])
        self._outbox.put(wire.Evaluated(sequence.request.id, sequence.n_prompt, sequence.n_cached))
        if sequence.n_predict == 0 and not sequence.scores:
            self._answers.finish(sequence, "length")

    # One step -----------------------------------------------------------------------------------

    def _step(self) -> None:
        self._turns.take()
        begun = time.perf_counter()
        self._look()
        planned, prompt_tokens = self._plan()
        if not planned:
            self._turns.give(time.perf_counter() - begun)  # an image may have been looked at
            return
        started = time.perf_counter()
        status = self._context.decode(self._batch)
        if self._turns.give((time.perf_counter() - begun) * self._weight()):
            self._context.pause()
        if status:
            self._on_failure(status, [sequence for sequence, _ in planned])
            return
        generating = self._batch.n_tokens - prompt_tokens
        seconds = time.perf_counter() - started
        if not any(sequence.scores for sequence, _ in planned):  # those are steps of another kind
            self._pace.learn(seconds, prompt_tokens, generating)
        if not prompt_tokens:
            self._speculation.learn(generating, seconds)
        now = time.perf_counter_ns()
        for sequence, count in planned:
            if sequence.scores:
                self._answers.score(sequence, count)
            self._reuse.evaluated(sequence, count)
            if sequence.guesses:
                self._answers.verify(sequence, now)
            elif sequence.output >= 0:
                self._answers.advance(sequence, now)

    def _weight(self) -> float:
        """What a second counts when turns are given: half while an answer has only begun."""
        fresh = any(sequence.n_generated < FRESH_TOKENS for sequence in self._running)
        return 0.5 if fresh else 1.0

    def _plan(self) -> tuple[list[tuple[Sequence, int]], int]:
        """Fills the batch; who has how many tokens in it, and how many belong to prompts."""
        for sequence in [one for one in self._running if one.generating]:
            if sequence.n_evaluated >= sequence.limit and not self._shift(sequence):
                self._answers.finish(sequence, "length")
        generating = [sequence for sequence in self._running if sequence.generating]
        prompting = self._prompting()
        wished = [self._most_at_once(sequence) for sequence in prompting]
        counts = shares(wished, self._budget(len(generating), sum(wished)))
        if not self._make_room(len(generating) + sum(counts)):
            return self._plan()
        self._guess(generating, sum(counts))
        self._batch.clear()
        for sequence in generating:
            slot = sequence.slot
            assert slot is not None
            sequence.output = self._batch.add_one(
                sequence.tokens[-1], sequence.n_evaluated, slot.id
            )
            for offset, token in enumerate(sequence.guesses, 1):
                self._batch.add_one(token, sequence.n_evaluated + offset, slot.id)
        planned = [(sequence, 1) for sequence in generating]
        for sequence, count in zip(prompting, counts, strict=True):
            if count:
                self._add_prompt(sequence, count)
                planned.append((sequence, count))
        return planned, sum(counts)

    def _budget(self, generating: int, wished: int) -> int:
        """How many tokens of prompts the next step may evaluate."""
        if not wished:
            return 0
        contended = self._turns.contended
        return self._pace.budget(generating, self._batch.room, wished, contended=contended)

    def _most_at_once(self, sequence: Sequence) -> int:
        """How many of its prompt's tokens may be evaluated next, given what has logits."""
        if not sequence.scores:
            return sequence.together
        scoring = sum(one.scores for one in self._running)
        spare = self._context.n_outputs - len(self._running)
        return min(sequence.together, 1 + spare // scoring)

    def _guess(self, generating: list[Sequence], prompt_tokens: int) -> None:
        """Lets answers try guesses in this step, where cells are free for them."""
        slots = self._reuse.slots
        prompts = prompt_tokens > 0 or len(generating) < len(self._running)
        sole = slots.sole is not None
        guesses = self._speculation.plan(
            generating, slots.most_cells, sole=sole, beside_prompts=prompts
        )
        if guesses and not slots.cells_fit(self._context.n_ctx - len(generating) - guesses):
            for sequence in generating:
                sequence.guesses = ()

    def _prompting(self) -> list[Sequence]:
        """Whose prompts are to be evaluated now."""
        for sequence in [one for one in self._running if one.leader is not None]:
            if self._reuse.ready(sequence, self._running):
                self._begin(sequence)
        return [one for one in self._running if not one.generating and one.leader is None]

    def _look(self) -> None:
        """Evaluates the next image, if one is due: a step of its own."""
        sequence = next((one for one in self._prompting() if one.piece), None)
        piece = sequence.piece if sequence else None
        if sequence is None or piece is None or not self._make_room(piece.n_cells):
            return
        assert sequence.slot is not None
        assert sequence.media is not None
        if sequence.media.evaluate(self._context, piece, sequence.slot.id):
            self._reuse.evaluated(sequence, piece.count, extra=piece.n_cells - piece.count)
        else:
            self._answers.fail(sequence, "llama.cpp could not evaluate the image")

    def _add_prompt(self, sequence: Sequence, count: int) -> None:
        start = sequence.n_evaluated
        last = count == sequence.pending
        assert sequence.slot is not None
        chunk = sequence.tokens[start : start + count]
        scores = sequence.scores
        index = self._batch.add_many(
            chunk, start, sequence.slot.id, output=last or scores, every=scores
        )
        sequence.output = index if last else -1
        if sequence.scoring is not None:
            sequence.scoring.output = index - count + 1

    def _release(self, sequence: Sequence) -> None:
        if sequence.slot is not None:
            self._reuse.release(sequence)
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        sequence.free()

    # Cells --------------------------------------------------------------------------------------

    def _make_room(self, needed: int) -> bool:
        """Frees cells for `needed` more tokens; False when a running sequence had to give way."""
        while not self._reuse.slots.cells_fit(self._context.n_ctx - needed):
            if self._reuse.evict():
                continue
            if len(self._running) == 1:
                return True  # alone: `limit` never exceeds the cache
            self._preempt(self._running[-1])
            return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        """Takes the cells of a running sequence; it will be evaluated again, to the same text."""
        sequence.guesses = ()
        self._reuse.forget(sequence)
        self._running.remove(sequence)
        self._waiting.appendleft(sequence)

    def _shift(self, sequence: Sequence) -> bool:
        """Drops old tokens of a full context; False when the request or the model forbids it."""
        if not (sequence.request.shift and self._context.can_shift and not sequence.media):
            return False
        self._reuse.shift(sequence, sequence.keep(self._vocabulary.add_bos))
        return True

    def _on_failure(self, status: int, planned: list[Sequence]) -> None:
        """A step that llama.cpp refused: make room and try again, or fail those who were in it."""
        if status == _NO_ROOM:
            if self._reuse.evict():
                return
            if len(self._running) > 1:
                self._preempt(self._running[-1])
                return
        for sequence in planned:
            message = f"llama.cpp could not evaluate the batch (status {status})"
            self._answers.fail(sequence, message)
        for sequence in self._running:
            sequence.n_evaluated, sequence.leader = 0, None
        self._reuse.clear()  # what the cache holds now is unknown

    # Embeddings --------------------------------------------------------------------------------

    def _add_embed(self, work: EmbedWork) -> None:
        try:
            self._embeds.add(work)
        except LlamaError as error:
            self._outbox.put(error.failed(work.request.id))

    def _embed(self) -> None:
        self._turns.take()
        started = time.perf_counter()
        for answer in self._embeds.step():
            self._outbox.put(answer)
        self._turns.give(time.perf_counter() - started)
