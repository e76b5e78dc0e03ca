"""Several answers to one request at once: OpenAI's `n`, and lists of prompts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ..chat.request import Event

MOST_CHOICES = 128
_EVENTS_AHEAD = 32  # of a client that reads slowly; the runner waits then


async def interleaved(
    answers: Sequence[AsyncGenerator[Event]],
) -> AsyncGenerator[tuple[int, Event]]:
    """Every event with the number of its answer, as they come. The first error ends all."""
    if len(answers) == 1:
        async with aclosing(answers[0]) as events:
            async for event in events:
                yield 0, event
        return
    arrived: asyncio.Queue[tuple[int, Event | None]] = asyncio.Queue(_EVENTS_AHEAD)
    tasks = [asyncio.create_task(_forward(i, each, arrived)) for i, each in enumerate(answers)]
    try:
        running = len(tasks)
        while running:
            number, arrival = await arrived.get()
            if arrival is None:
                running -= 1
                await tasks[number]
            else:
                yield number, arrival
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(
    index: int,
    events: AsyncGenerator[Event],
    arrived: asyncio.Queue[tuple[int, Event | None]],
) -> None:
    listened_to = True
    try:
        async with aclosing(events):
            async for event in events:
                await arrived.put((index, event))
                await asyncio.sleep(0)  # or one quick answer keeps the queue full for itself
    except asyncio.CancelledError:
        listened_to = False  # nobody takes from the queue any more, and it may be full
        raise
    finally:
        if listened_to:
            await arrived.put((index, None))
