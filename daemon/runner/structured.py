"""Picks tokens that keep an answer within its constraint, and knows those that must follow.

First the sampler chooses freely; most choices are allowed anyway, and cost nothing more. Where one
isn't, the chain chooses again among the allowed tokens only. Rejection leaves the same distribution
as masking at once would, since every allowed token keeps its share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .candidates import Candidates
from .llama import Context
from .llama_error import LlamaError
from .reasoning import Reasoning
from .sampling import Sampler
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher


class ConstrainedSampler:
    """Picks for one sequence as `sampler` would, within `matcher`, once `reasoning` is over."""

    def __init__(
        self,
        sampler: Sampler,
        matcher: LLMatcher,
        candidates: Candidates,
        vocabulary: Vocabulary,
        reasoning: Reasoning | None = None,
    ) -> None:
        self._sampler = sampler
        self._matcher = matcher
        self._candidates = candidates
        self._vocabulary = vocabulary
        self._reasoning = reasoning
        self._queued: list[int] = []

    @property
    def complete(self) -> bool:
        """Whether the constraint is satisfied and nothing may follow."""
        return self._reasoning is None and self._matcher.is_stopped()

    @property
    def unfinished(self) -> bool:
        """Whether the answer, as it is, does not satisfy the constraint yet."""
        return self._reasoning is not None or not self._matcher.is_accepting()

    def pick(self, context: Context, index: int) -> int:
        """The next token. Raises LlamaError when the constraint got too complex to follow."""
        if self._reasoning is not None:
            return self._pick_freely(self._reasoning, context, index)
        token = self._sampler.choose(*self._candidates.all(context, index))
        if not self._matcher.try_consume_tokens([token]):
            token = self._sampler.choose(*self._candidates.allowed(context, index, self._matcher))
            self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise LlamaError("decode_failed", "the format became too complex to go on with")
        self._sampler.accept(token)
        return token

    def follow(self, room: int) -> list[int]:
        """Tokens that need no picking: the rest of a tag, or at most `room` forced ones."""
        tokens, self._queued = self._queued, []
        if tokens or self._reasoning is not None or self._matcher.is_stopped():
            return tokens
        tokens = self._matcher.compute_ff_tokens()
        if len(tokens) > room:
            return []
        self._matcher.consume_tokens(tokens)
        for token in tokens:
            self._sampler.accept(token)
        return tokens

    def free(self) -> None:
        self._sampler.free()

    def _pick_freely(self, reasoning: Reasoning, context: Context, index: int) -> int:
        token = self._sampler.pick(context, index)
        ends = self._vocabulary.ends(token)
        piece = self._vocabulary.piece(token, special=True)  # tags may be control tokens
        verdict = reasoning.end() if ends else reasoning.feed(piece)
        if verdict.over:
            self._reasoning = None
        if verdict.keep:
            return token
        if not verdict.instead:
            return self.pick(context, index)
        text = verdict.instead.decode(errors="replace")
        first, *self._queued = self._vocabulary.tokenize(
            text, add_special=False, parse_special=True
        )
        return first
