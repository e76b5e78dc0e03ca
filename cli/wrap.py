"""Text on a terminal, as it streams: no word is torn at the edge, no control sequence gets out."""

from __future__ import annotations

import unicodedata

_KEPT_CONTROLS = "\n\t"
TAB_COLUMNS = 8
FENCE = "```"


def printable(text: str) -> str:
    """`text` without control characters: what a model writes may not steer the terminal."""
    return "".join(
        char for char in text if char in _KEPT_CONTROLS or unicodedata.category(char) != "Cc"
    )


def char_columns(char: str) -> int:
    """How many columns a terminal gives this character: 0, 1 or 2."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


class WordWrap:
    """Wraps streamed text at word borders by taking back a word that ran over the edge.

    Code between fences is left alone: a line break there would be a change.
    """

    def __init__(self, columns: int) -> None:
        self._limit = max(columns - 1, 8)  # the last column stays free: terminals differ about it
        self._column = 0
        self._word = ""  # what stands on this line since the last space
        self._line_start = ""
        self._fenced = False

    def feed(self, text: str) -> str:
        """What to print for the next piece of text."""
        return "".join(self._place(char) for char in text)

    def _place(self, char: str) -> str:
        if char == "\n":
            return self._new_line()
        if len(self._line_start) < len(FENCE):
            self._line_start = (self._line_start + char).lstrip()
        if self._fenced or self._line_start == FENCE:
            return char
        if char in " \t":
            return self._space(char)
        return self._letter(char)

    def _new_line(self) -> str:
        if self._line_start == FENCE:
            self._fenced = not self._fenced
        self._column, self._word, self._line_start = 0, "", ""
        return "\n"

    def _space(self, char: str) -> str:
        step = 1 if char == " " else TAB_COLUMNS - self._column % TAB_COLUMNS
        self._word = ""
        if self._column + step > self._limit:
            self._column = 0
            return "\n"
        self._column += step
        return char

    def _letter(self, char: str) -> str:
        columns = char_columns(char)
        output = char
        if self._column + columns > self._limit:
            output = self._take_back() + char
        self._word += char
        self._column += columns
        if columns == 2:  # a line may break after any ideograph
            self._word = ""
        return output

    def _take_back(self) -> str:
        """Move the word that is being written to the next line; one longer than a line breaks."""
        word, columns = self._word, sum(map(char_columns, self._word))
        if not 0 < columns < self._column:
            self._column, self._word = 0, ""
            return "\n"
        self._column = columns
        return f"\x1b[{columns}D\x1b[K\n{word}"
