"""From token bytes to text that may be shown: whole characters, nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class AnswerText:
    """Joins the bytes of tokens into text and watches for stop strings.

    `feed` returns what is safe to show. Characters that are cut between tokens wait for their
    rest, and so does text that may be the beginning of a stop string. Once `stopped_by` is set
    the answer is over; what follows the stop string is dropped.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stopped_by = ""
        self._stops = tuple(stop for stop in stops if stop)
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._held = ""

    def feed(self, piece: bytes) -> str:
        """Text that can be shown now."""
        text = self._decode(piece)
        if not self._stops:
            return text
        return self._release(self._held + text)

    def finish(self) -> str:
        """What was held back, at the end of the answer; a cut character reads as U+FFFD."""
        if self.stopped_by:
            return ""
        text = self._held + self._decode(b"", final=True)
        self._held = ""
        if not self._stops:
            return text
        return self._release(text) + self._take_held()

    def _release(self, text: str) -> str:
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # Whichever is complete first, however the text was cut into pieces.
            at, self.stopped_by = min(found, key=lambda hit: (hit[0] + len(hit[1]), hit[0]))
            self._held = ""
            return text[:at]
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _take_held(self) -> str:
        held, self._held = self._held, ""
        return "" if self.stopped_by else held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
