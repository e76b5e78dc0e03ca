"""A job's progress as a client sees it: lines while it runs, or only its last word."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from .edge import line
from .fields import JsonObject


async def progress_lines(progress: AsyncGenerator[JsonObject]) -> AsyncGenerator[bytes]:
    """One line a step. Closing it leaves the job, which ends if nobody else waits for it."""
    async with aclosing(progress):
        async for step in progress:
            yield line(step)


async def last_progress(progress: AsyncGenerator[JsonObject]) -> JsonObject:
    """What the job said last, once it is through."""
    last: JsonObject = {}
    async with aclosing(progress):
        async for step in progress:
            last = step
    return last
