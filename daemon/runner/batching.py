"""How many prompt tokens a decode step takes in. Pure.

Answers that are under way get their token in every step; prompts share what is left. The measured
speed decides how much that is: a step must stay short while others wait for their next token, and
short enough for cancellation and newcomers otherwise.

However fast it goes, a prompt that is evaluated alone leaves the same bits in the cache, so that a
repeated request has a repeated answer. That holds for all ways to cut it into whole tiles of
attention where kernels that take several tokens at once have none left over, but at its end. Of
slower models all pieces are smaller than a tile, so that their tokens come one by one in each.
Beside other answers of the model no batch is repeated, and its pieces may be of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BUSY_STEP_S: Final = 0.15  # the pause that a prompt may put between two tokens of another answer
ALONE_STEP_S: Final = 0.5
FIRST_CHUNK: Final = 64  # before anything was measured
GRAIN: Final = 64  # a tile of flash attention; with fewer tokens it takes them one by one
FINE_GRAIN: Final = 32  # without it, hardly slower than any other number
FINE_STEP: Final = 8
LONGEST_TILE_S: Final = 1.0  # of slower models parts of a tile are evaluated
SMALLEST_CHUNK: Final = 8
_TOGETHER: Final = 4  # tokens that a kernel takes at most; what is left over it rounds otherwise
_SMOOTHING: Final = 0.3


def shares(remaining: Sequence[int], total: int) -> list[int]:
    """Divides `total` tokens evenly among prompts of `remaining` tokens; no one gets too many.

    What short prompts leave goes to the longer ones, the first in order first. A prompt that comes
    last and finds no room gets 0.
    """
    given = [0] * len(remaining)
    open_ = [index for index, count in enumerate(remaining) if count]
    while total > 0 and open_:
        even = max(total // len(open_), 1)
        for index in open_:
            more = min(even, remaining[index] - given[index], total)
            given[index] += more
            total -= more
        open_ = [index for index in open_ if given[index] < remaining[index]]
    return given


@dataclass(slots=True)
class Pace:
    """How fast this model runs here, learnt from its own steps.

    `grain`: prompts are evaluated in multiples of so many tokens, unless beside answers. `fine`:
    there a part of a tile takes no longer for each token than a whole one.
    """

    token_s: float | None = None  # one more prompt token
    step_s: float = 0.0  # a step without any prompt token
    grain: int = GRAIN
    fine: bool = False

    def budget(
        self, generating: int, n_batch: int, waiting: int, *, contended: bool = False
    ) -> int:
        """How many of `waiting` prompt tokens the next step may evaluate.

        Beside so many answers of this model, or while another one is `contended` for the CPU.
        """
        room = n_batch - generating
        if self.token_s is None:
            return _piece(FIRST_CHUNK, waiting, room)
        busy = generating > 0 or contended
        tokens = int((BUSY_STEP_S if busy else ALONE_STEP_S) / self.token_s)
        if self.grain * self.token_s > LONGEST_TILE_S:
            return min(max(tokens - tokens % _TOGETHER, SMALLEST_CHUNK), room)
        if generating:
            return min(self._beside(tokens, generating), waiting, room)
        # Fewer than the grain might take no less time than all.
        return _piece(max(tokens - tokens % self.grain, self.grain), waiting, room)

    def _beside(self, tokens: int, generating: int) -> int:
        """About `tokens`, so that with those of answers no tile is begun for the last few."""
        if self.fine and tokens + generating < GRAIN:
            return max(tokens - tokens % FINE_STEP, FINE_GRAIN)
        together = max(tokens, FINE_GRAIN) + generating
        piece = together - together % GRAIN - generating
        return piece if piece >= FINE_GRAIN else piece + GRAIN

    def learn(self, seconds: float, prompt_tokens: int, generating: int) -> None:
        """Takes in what a step of that many tokens took.

        What a token of few takes is an upper bound of what one of many does.
        """
        if prompt_tokens:
            rest = seconds - self.step_s if generating else seconds
            token_s = max(rest, seconds / 4) / prompt_tokens
            enough = FINE_GRAIN if self.fine else self.grain - generating
            if prompt_tokens >= enough or (self.token_s is not None and token_s < self.token_s):
                self.token_s = _smooth(self.token_s, token_s)
        else:
            self.step_s = _smooth(self.step_s or None, seconds)


def _piece(tokens: int, waiting: int, room: int) -> int:
    """About `tokens` of so many, or a little more: no small piece is left for the end."""
    pieces = max(waiting // tokens, -(-waiting // room))
    if pieces <= 1:
        return waiting
    even = waiting // pieces
    return max(even - even % _TOGETHER, 1)


def _smooth(before: float | None, now: float) -> float:
    return now if before is None else before + _SMOOTHING * (now - before)
