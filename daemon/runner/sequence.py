"""One request while it is being answered: its tokens, its text, its limits, its clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from . import wire
from .lookup import Lookup
from .media import Media, Piece
from .sampling import Sampler
from .scoring import Scoring
from .slots import Slot
from .structured import ConstrainedSampler
from .text import AnswerText
from .warmth import Stored

UNLIMITED_CONTEXTS: Final = 10  # an answer without num_predict ends after as many contexts
UNTOUCHED: Final = 1 << 62
FIRST_DRAFT_TRUST: Final = 0.8
_LEARNING: Final = 0.1
REPEATS_LIMIT: Final = 30  # one token over and over is a model that hangs, not an answer


@dataclass(slots=True, eq=False)
class Sequence:
    """A request, from its arrival in the engine to its `Done`.

    `tokens` is the prompt and, behind it, what was generated; the first `n_evaluated` of them are
    in the KV cache. One token is pending while it generates, more while its prompt is evaluated.
    """

    request: wire.Generate
    tokens: list[int]
    sampler: Sampler | ConstrainedSampler
    limit: int  # positions that it may hold
    arrived_ns: int
    text: AnswerText
    n_prompt: int  # what the prompt counts, with all cells of its images
    n_predict: int
    media: Media | None = None
    scoring: Scoring | None = None  # what of its prompt is to be told
    slot: Slot | None = None
    stored: Stored | None = None  # a beginning of it that comes from the disk
    leader: Sequence | None = None  # whose evaluation of `awaited` tokens it waits for
    awaited: int = 0
    n_evaluated: int = 0
    pure: int = UNTOUCHED  # so many tokens are in the cache as if evaluated from the start
    n_cached: int = 0
    n_generated: int = 0
    repeats: int = 0
    output: int = -1  # index of its logits in the batch
    admitted_ns: int = 0
    first_ns: int = 0
    n_unsent: int = 0  # tokens since the last chunk that was sent
    unsent: list[wire.TokenLogprob] = field(default_factory=list)
    lookup: Lookup = field(default_factory=Lookup)
    guesses: tuple[int, ...] = ()  # tokens evaluated behind the last, in case that they come
    drafted: bool = False  # by the draft model
    draft_trust: float = FIRST_DRAFT_TRUST  # how often its guesses were right lately
    n_guessed: int = 0
    n_guessed_right: int = 0

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.n_evaluated

    @property
    def scores(self) -> bool:
        """Whether logits are wanted at every token of its prompt, so that none may be reused."""
        return self.scoring is not None and not self.scoring.done

    @property
    def exact(self) -> int:
        """How much of what is in the cache others may use: nothing that a shift has moved."""
        return min(self.n_evaluated, self.pure)

    @property
    def together(self) -> int:
        """How many of the pending tokens may be evaluated together: up to the next image.

        A prompt's last token comes alone, since it does so when all before it are cached. Kernels
        round otherwise for many tokens, and the same request shall have the same answer.
        """
        end = self.media.next_start(self.n_evaluated) if self.media else None
        if end is not None:
            return end - self.n_evaluated
        return self.pending - (self.n_generated == 0)

    @property
    def piece(self) -> Piece | None:
        """The image that is to be evaluated next."""
        return self.media.at(self.n_evaluated) if self.media else None

    def free(self) -> None:
        """Gives back what C holds for it."""
        self.sampler.free()
        if self.media is not None:
            self.media.free()
            self.media = None

    @property
    def repeatable(self) -> bool:
        """Whether the same request has to give the same text."""
        options = self.request.options
        greedy = options.temperature is not None and options.temperature <= 0
        return greedy or (options.seed is not None and options.seed >= 0)

    @property
    def generating(self) -> bool:
        """Whether its next step makes a token."""
        return self.n_evaluated == len(self.tokens) - 1

    def came_true(self, guesses: tuple[int, ...], right: int) -> bool:
        """Whether the next token, which is picked, is the one guessed behind `right` others."""
        return (
            self.pending > 0
            and right < len(guesses)
            and self.tokens[self.n_evaluated] == guesses[right]
        )

    def judge(self, right: int) -> None:
        """Takes note how many of the guesses came true."""
        if self.drafted:
            for hit in [True] * right + [False] * (right < len(self.guesses)):
                self.draft_trust += _LEARNING * (hit - self.draft_trust)
        self.guesses = ()

    def append(self, token: int, *, forced: bool = False) -> None:
        """Adds a token; one that is `forced` on the model tells nothing about whether it hangs."""
        again = bool(self.tokens) and token == self.tokens[-1] and not forced
        self.repeats = self.repeats + 1 if again else 0
        self.tokens.append(token)
        self.n_generated += 1

    def following(self) -> list[int]:
        """Tokens that its constraint forces next."""
        room = min(self.limit - len(self.tokens), self.n_predict - self.n_generated)
        if self.request.logprobs >= 0:
            room = 0  # what is not evaluated alone has no probability to tell
        return self.sampler.follow(room)

    def drop_old(self, keep: int) -> int:
        """Forgets half of what comes after the first `keep` tokens; how many that were."""
        dropped = max((self.n_evaluated - keep) // 2, 1)
        del self.tokens[keep : keep + dropped]
        self.n_evaluated -= dropped
        self.lookup.forget()
        return dropped

    def keep(self, add_bos: bool) -> int:
        """How many tokens at the beginning outlive a context shift."""
        wanted = self.request.options.num_keep
        if wanted is None or wanted < 0:
            wanted = self.n_prompt
        return min(wanted + int(add_bos), self.limit // 2)


def predict_limit(options: wire.Options, limit: int) -> int:
    """How many tokens the answer may have."""
    wanted = options.num_predict
    return UNLIMITED_CONTEXTS * limit if wanted is None or wanted < 0 else wanted


def cut_middle(tokens: list[int], limit: int, keep: int) -> list[int]:
    """A prompt that fits `limit` with room for an answer: its first `keep` tokens and its end."""
    keep = min(max(keep, 0), limit // 2)
    tail = max((limit - keep) // 2, 1)
    return tokens[:keep] + tokens[-tail:]
