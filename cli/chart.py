"""Bar charts as a PNG, drawn with nothing but zlib: labels in a small font, bars, values."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SCALE = 2
_GLYPH_COLUMNS, _GLYPH_ROWS = 5, 7
_BAR_PIXELS, _ROW_PIXELS, _MARGIN = 360, 28, 20
_WHITE, _BLACK, _BLUE = 255, 0, 120  # shades of grey

# Seven rows of five pixels, top first, each as a number from 0 to 31.
_FONT = {
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    ".": (0, 0, 0, 0, 0, 12, 12),
    "_": (0, 0, 0, 0, 0, 0, 31),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 15),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "K": (17, 18, 20, 24, 20, 18, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "Q": (14, 17, 17, 17, 21, 18, 13),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 17, 10, 4),
    "W": (17, 17, 17, 21, 21, 27, 17),
    "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 10, 4, 4, 4, 4),
}


@dataclass(frozen=True, slots=True)
class Chart:
    """One bar for each name and value, which is written with so many decimals."""

    title: str
    bars: Sequence[tuple[str, float]]
    decimals: int

    def written(self, value: float) -> str:
        return f"{value:.{self.decimals}f}"


def bar_charts(charts: Sequence[Chart]) -> bytes:
    """One below the other, in each the longest bar across the whole width."""
    labels = _widest(name for chart in charts for name, _ in chart.bars)
    values = _widest(chart.written(value) for chart in charts for _, value in chart.bars)
    rows = sum(len(chart.bars) + 1 for chart in charts)
    titles = _widest(chart.title for chart in charts)
    width = max(titles, labels + _BAR_PIXELS + values + 2 * _MARGIN) + 2 * _MARGIN
    canvas, top = _Canvas(width, rows * _ROW_PIXELS + 2 * _MARGIN), _MARGIN
    for chart in charts:
        canvas.text(_MARGIN, top, chart.title)
        _draw(canvas, chart, top + _ROW_PIXELS, labels + 2 * _MARGIN)
        top += (len(chart.bars) + 1) * _ROW_PIXELS
    return canvas.png()


def _draw(canvas: _Canvas, chart: Chart, top: int, start: int) -> None:
    longest = max((value for _, value in chart.bars), default=0.0) or 1.0
    for number, (name, value) in enumerate(chart.bars):
        at = top + number * _ROW_PIXELS
        length = round(value / longest * _BAR_PIXELS)
        canvas.text(_MARGIN, at, name)
        canvas.fill(start, at, length, _GLYPH_ROWS * _SCALE, _BLUE)
        canvas.text(start + length + _MARGIN // 2, at, chart.written(value))


def _widest(texts: Iterable[str]) -> int:
    return max(map(_text_pixels, texts), default=0)


def _text_pixels(text: str) -> int:
    return len(text) * (_GLYPH_COLUMNS + 1) * _SCALE


class _Canvas:
    """Rows of grey pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._rows = [bytearray([_WHITE]) * width for _ in range(height)]

    def fill(self, left: int, top: int, width: int, height: int, shade: int) -> None:
        for row in self._rows[top : top + height]:
            row[left : left + width] = bytes([shade]) * len(row[left : left + width])

    def text(self, left: int, top: int, text: str) -> None:
        """Characters that the font lacks stay blank."""
        for number, character in enumerate(text.upper()):
            at = left + number * (_GLYPH_COLUMNS + 1) * _SCALE
            for line, bits in enumerate(_FONT.get(character, ())):
                for column in range(_GLYPH_COLUMNS):
                    if bits >> (_GLYPH_COLUMNS - 1 - column) & 1:
                        x, y = at + column * _SCALE, top + line * _SCALE
                        self.fill(x, y, _SCALE, _SCALE, _BLACK)

    def png(self) -> bytes:
        """As the PNG specification has it: header, one block of pixels, end."""
        header = struct.pack(">IIBBBBB", self._width, len(self._rows), 8, 0, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in self._rows))
        blocks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_block(kind, data) for kind, data in blocks)


def _block(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
