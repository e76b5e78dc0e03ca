"""Sizes and times in people's words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from qm.cli.table import ago_text, duration_text, size_text, table, until_text

NOW = datetime(2026, 11, 21, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (98_362_745, "98 MB"), (4_683_075_271, "4.7 GB"),
     (9_960_000, "10 MB"), (999_600_000, "1.0 GB"), (10**18, "1000 PB")],
)  # fmt: skip
def test_sizes(size: int, text: str) -> None:
    """Decimal units, two or three digits."""
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "1 minute"),
        (7200, "2 hours"),
        (8 * 86400, "1 week"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """The largest whole unit."""
    assert duration_text(seconds) == text


def test_moments() -> None:
    """Nanoseconds are read, the past is ago, the far future is forever."""
    assert ago_text("2026-11-21T22:24:18.166674092Z", NOW) == "5 minutes ago"
    assert ago_text("2026-11-21T22:30:00.5Z", NOW) == "just now"
    assert until_text("2026-11-21T22:34:30Z", NOW) == "4 minutes from now"
    assert until_text("2318-01-01T00:00:00Z", NOW) == "forever"
    assert until_text("2026-11-21T22:29:00Z", NOW) == "stopping…"


def test_columns_fit_their_widest_cell() -> None:
    """A table without rows is its header."""
    assert table(("A", "B"), [("long", "x")]) == "A       B\nlong    x"
    assert table(("A", "B"), []) == "A    B"
