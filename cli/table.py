"""Rows in columns, and sizes and times in the words that people use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_SPANS = (
    (365 * 86400, "year"),
    (30 * 86400, "month"),
    (7 * 86400, "week"),
    (86400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)
FOREVER_S = 50 * 365 * 86400


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, as wide as their widest cell, four spaces apart."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "    ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def size_text(size_bytes: float) -> str:
    """Decimal units with three digits that mean something: 98 MB, 4.7 GB."""
    value, unit = float(size_bytes), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 1 if unit and value < 9.95 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def duration_text(seconds: float) -> str:
    """The largest unit that fits: "4 minutes"; less than a second is "0 seconds"."""
    for span, word in _SPANS:
        if seconds >= span:
            count = int(seconds // span)
            return f"{count} {word}" if count == 1 else f"{count} {word}s"
    return "0 seconds"


def parse_time(text: str) -> datetime:
    """A moment from the daemon's JSON; digits finer than microseconds are dropped."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ago_text(text: str, now: datetime) -> str:
    """When a past moment was, seen from `now`: "2 days ago"."""
    seconds = (now - parse_time(text)).total_seconds()
    return "just now" if seconds < 1 else f"{duration_text(seconds)} ago"


def until_text(text: str, now: datetime) -> str:
    """When a coming moment is: "4 minutes from now", "forever", or "stopping…" when it is past."""
    seconds = (parse_time(text) - now).total_seconds()
    if seconds > FOREVER_S:
        return "forever"
    return "stopping…" if seconds <= 0 else f"{duration_text(seconds)} from now"
