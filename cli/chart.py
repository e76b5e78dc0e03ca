"""A bar chart as a PNG, drawn with nothing but zlib: labels in a small font, bars, values."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

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
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
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


def bar_chart(bars: Sequence[tuple[str, float]]) -> bytes:
    """One bar for each name and value, the longest across the whole width."""
    longest = max((value for _, value in bars), default=1.0)
    labels = max((_text_pixels(name) for name, _ in bars), default=0)
    values = max((_text_pixels(f"{value:.3f}") for _, value in bars), default=0)
    width = labels + _BAR_PIXELS + values + 4 * _MARGIN
    canvas = _Canvas(width, len(bars) * _ROW_PIXELS + 2 * _MARGIN)
    for number, (name, value) in enumerate(bars):
        top = _MARGIN + number * _ROW_PIXELS
        canvas.text(_MARGIN, top, name)
        length = round(value / longest * _BAR_PIXELS)
        start = labels + 2 * _MARGIN
        canvas.fill(start, top, length, _GLYPH_ROWS * _SCALE, _BLUE)
        canvas.text(start + length + _MARGIN // 2, top, f"{value:.3f}")
    return canvas.png()


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
