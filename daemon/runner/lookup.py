"""What may come next, told from what followed the same tokens before. Pure.

Answers repeat: code with one name changed, a list's next line, a quotation. Where the last tokens
of a text occurred in it before, what followed there is a guess at what follows here. Every token
that comes tells whether the guess was right, whether or not anybody made use of it, so a text that
doesn't repeat itself is known to be one without any cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

_Key: TypeAlias = tuple[int, int, int]

WIDTH: Final = 3  # tokens that must be the same
_FIRST_TRUST: Final = 0.5
_LEARNING: Final = 0.2


class Lookup:
    """Guesses for one growing text. `trust` is how often guesses were right lately, 0 to 1."""

    def __init__(self) -> None:
        self.trust = _FIRST_TRUST
        self._after: dict[_Key, int] = {}  # where the text went on, the last time
        self._read = 0
        self._next = -1  # position of the token that is the guess

    def read(self, tokens: Sequence[int]) -> None:
        """Takes in what came to `tokens` since the last time."""
        if not self._read:
            self._index(tokens)
        for at in range(self._read, len(tokens)):
            self._take(tokens, at)
        self._read = len(tokens)

    @property
    def found(self) -> bool:
        """Whether there is a guess."""
        return self._next >= 0

    def guess(self, tokens: Sequence[int], count: int) -> list[int]:
        """Up to `count` tokens that may follow `tokens`, all of which was read."""
        if self._next < 0:
            return []
        found = list(tokens[self._next : self._next + count])
        period = len(tokens) - self._next  # the guess may run into itself
        while len(found) < count:
            found.append(found[-period])
        media = next((at for at, token in enumerate(found) if token < 0), count)
        return found[:media]

    def forget(self) -> None:
        """The tokens that were read are not what they were."""
        self._after.clear()
        self._read, self._next = 0, -1

    def _index(self, tokens: Sequence[int]) -> None:
        """All at once, as a prompt comes; its end is taken token by token."""
        self._read = max(len(tokens) - 1, 0)
        keys = zip(tokens, tokens[1:], tokens[2 : self._read], strict=False)
        self._after = dict(zip(keys, range(WIDTH, self._read + 1), strict=False))

    def _take(self, tokens: Sequence[int], at: int) -> None:
        right = False
        if self._next >= 0:
            right = tokens[self._next] == tokens[at]
            self.trust += _LEARNING * (right - self.trust)
        if at + 1 < WIDTH:
            return
        key = (tokens[at - 2], tokens[at - 1], tokens[at])
        found = self._after.get(key, -1)
        self._next = self._next + 1 if right else found
        self._after[key] = at + 1
