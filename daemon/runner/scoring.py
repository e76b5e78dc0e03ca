"""What the model thinks of a prompt: the log probability of each of its tokens.

It takes logits at every position, of which a context gives only a few at a time. So such a prompt
is evaluated in small pieces, from its beginning, and each piece is told as soon as it is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import wire
from .llama import Context
from .logprobs import token_logprob, without_logprob
from .vocabulary import Vocabulary


@dataclass(slots=True)
class Scoring:
    """The tokens of one prompt; `told` is the place of the next that is to be told.

    The vocabulary's own first token, which the client did not write, is not told.
    """

    tokens: tuple[int, ...]
    first: int
    told: int
    spaced: bool  # the tokenizer has put a space before the text
    output: int = -1  # index of the logits at the first token of the piece under way

    @property
    def done(self) -> bool:
        return self.told == len(self.tokens)

    def read(
        self, vocabulary: Vocabulary, context: Context, start: int, count: int, n_top: int
    ) -> tuple[wire.TokenLogprob, ...]:
        """What the `count` tokens from `start` on tell, now that they are evaluated."""
        entries: list[wire.TokenLogprob] = []
        if self.told == self.first:
            entry = without_logprob(vocabulary, self.tokens[self.first], spaced=self.spaced)
            entries.append(entry)
            self.told += 1
        for index in range(max(self.told, start + 1), min(start + count + 1, len(self.tokens))):
            logits = context.logits(self.output + index - 1 - start)
            token = self.tokens[index]
            entries.append(token_logprob(vocabulary, logits, token, n_top, special=True))
            self.told = index + 1
        return tuple(entries)


def scoring_of(request: wire.Generate, tokens: list[int], vocabulary: Vocabulary) -> Scoring | None:
    """What there is to tell of a prompt's tokens; None where nobody asked."""
    if not request.score_prompt:
        return None
    text = request.prompt if request.tokens is None else None
    begun = vocabulary.text(vocabulary.bos)
    own = text is not None and tokens[0] == vocabulary.bos and not text.startswith(begun)
    first = int(own and len(tokens) > 1)
    spaced = text is not None and not text.startswith(" ")
    return Scoring(tuple(tokens), first, first, spaced)
