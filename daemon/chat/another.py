"""A request whose runner dies before it has begun to answer goes to another one, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from ..runner.failures import RunnerFailed
from ..ticket import Use
from .request import Event, Started

TRIES: Final = (False, True)  # whether it is the last


@dataclass(slots=True)
class Told:
    """What somebody has seen of an answer, in whatever try."""

    started: bool = False
    begun: bool = False  # nobody else can go on with it

    def adds(self, event: Event) -> bool:
        """Whether to tell this event: that an answer starts is told by each try."""
        if not isinstance(event, Started):
            self.begun = True
            return True
        new, self.started = not self.started, True
        return new


@asynccontextmanager
async def attempt(use: Use, told: Told | None = None, *, last: bool) -> AsyncIterator[None]:
    """Swallows RunnerFailed of a runner that is gone, when another may be asked instead.

    It may have died before it was asked. The block returns or raises, unless it is to be tried
    again.
    """
    try:
        yield
    except RunnerFailed:
        if (told and told.begun) or last or not await use.runner.ended():
            raise
