"""A request whose runner dies before it has begun to answer goes to another one, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from ..runner.failures import RunnerFailed
from ..ticket import Use

TRIES: Final = (False, True)  # whether it is the last


@dataclass(slots=True)
class Attempt:
    """One try; `begun` once somebody has seen a part of the answer."""

    begun: bool = False


@asynccontextmanager
async def attempt(use: Use, *, last: bool) -> AsyncIterator[Attempt]:
    """Swallows RunnerFailed of a runner that is gone, when another may be asked instead.

    It may have died before it was asked. The block returns or raises, unless it is to be tried
    again.
    """
    trying = Attempt()
    try:
        yield trying
    except RunnerFailed:
        if trying.begun or last or not await use.runner.ended():
            raise
