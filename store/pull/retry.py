"""How long to wait before trying again. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_S = 0.25
LONGEST_S = 30.0
_RESET = re.compile(r"\bt=(\d+)")
_LEFT = re.compile(r"\br=(\d+)")
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


def backoff_s(failures: int, chance: float) -> float:
    """Doubles with each failure in a row; `chance` in [0, 1) spreads those who wait."""
    whole = min(LONGEST_S, FIRST_S * 2 ** min(failures - 1, 16))
    return float(whole * (0.5 + chance / 2))


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """When the server wants to see us again: `Retry-After`, or a spent `RateLimit`."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    if told := lower.get("retry-after"):
        return _seconds(told, now)
    limit = lower.get("ratelimit", "")
    left, reset = _LEFT.search(limit), _RESET.search(limit)
    return float(reset[1]) if left and reset and left[1] == "0" else None


def _seconds(told: str, now: datetime) -> float | None:
    if told.isdecimal():
        return float(told)
    try:
        when = parsedate_to_datetime(told)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
