"""Finds the end of a model's reasoning, where the constraint on its answer begins. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a token means for the reasoning.

    `over`: the constraint binds from here on. `keep`: the token stays; otherwise `instead` stands
    for it, or, if that's empty, the constraint binds this very token.
    """

    over: bool
    keep: bool
    instead: bytes = b""


_GO_ON = Verdict(over=False, keep=True)
_ENDS = Verdict(over=True, keep=True)
_NEVER_BEGAN = Verdict(over=True, keep=False)
_ENOUGH_FOR_AN_ANSWER: Final = 1024


def most_reasoning(num_predict: int | None, room: int) -> int:
    """How many tokens of reasoning leave enough for the answer, of all that may be generated.

    Some models never end by themselves; then there would be no answer within any limit.
    """
    limited = num_predict is not None and num_predict >= 0
    tokens = min(num_predict or 0, room) if limited else room
    return max(tokens - min(tokens // 2, _ENOUGH_FOR_AN_ANSWER), 1)


class Reasoning:
    """Feed it the bytes of each token. An `opening` of "" means that the prompt has it already.

    It is over after `most` tokens, whatever the model would still say.
    """

    def __init__(self, opening: str, closing: str, most: int) -> None:
        self._opening = opening.encode()
        self._closing = closing.encode()
        self._left = most
        self._seen = b""  # since the last thing that mattered

    def feed(self, piece: bytes) -> Verdict:
        """What the next token is."""
        self._left -= 1
        return self.end() if self._left < 0 else self._feed(piece)

    def _feed(self, piece: bytes) -> Verdict:
        before, self._seen = self._seen, self._seen + piece
        if self._opening:
            return self._open(piece)
        at = self._seen.find(self._closing)
        if at < 0:
            self._seen = self._seen[1 - len(self._closing) :]
            return _GO_ON
        end = at + len(self._closing)
        if self._seen[end:].strip():
            # The answer begins inside this token, unchecked: write the tag alone.
            return Verdict(over=True, keep=False, instead=piece[: end - len(before)])
        return _ENDS

    def end(self) -> Verdict:
        """The model ended its answer here, or has to."""
        if self._opening:
            return _NEVER_BEGAN
        return Verdict(over=True, keep=False, instead=self._closing)

    def _open(self, piece: bytes) -> Verdict:
        text = self._seen.lstrip()
        if not text:
            return _GO_ON
        if text.startswith(self._opening):
            rest = text.removeprefix(self._opening)
            self._opening, self._seen = b"", b""
            return self._feed(rest)
        if self._opening.startswith(text):
            missing = self._opening.removeprefix(text)
            self._opening, self._seen = b"", b""
            return Verdict(over=False, keep=False, instead=piece + missing)
        return _NEVER_BEGAN
