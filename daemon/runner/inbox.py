"""What a child has answered to one request, until that is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from . import wire
from .failures import AnswerNotRead, RunnerFailed

UNREAD_LIMIT: Final = 8192  # answers that wait for one slow reader before its request is cut

_Item: TypeAlias = wire.FromRunner | RunnerFailed | AnswerNotRead


class Inbox:
    """Answers in order, or why there will be none.

    `on_over` is called when no more will come, however much is left to read.
    """

    def __init__(self, on_over: Callable[[], None] | None = None) -> None:
        self._items: asyncio.Queue[_Item] = asyncio.Queue()
        self._on_over = on_over

    def fail(self, failure: RunnerFailed) -> None:
        """All who read on from here get `failure`."""
        self._items.put_nowait(failure)

    def deliver(self, answer: wire.FromRunner) -> None:
        """Adds an answer. Raises AnswerNotRead when too many wait: the reader has lost the rest."""
        if self._items.qsize() >= UNREAD_LIMIT:
            cut = AnswerNotRead("the answer was not read for too long; it was cut")
            self._items.put_nowait(cut)
            self._end()
            raise cut
        unread = not self._items.empty()
        self._items.put_nowait(answer)
        if isinstance(answer, wire.Done) or (unread and isinstance(answer, wire.Failed)):
            self._end()

    async def read(self) -> wire.FromRunner:
        """The next answer. Raises RunnerFailed or AnswerNotRead, also to those who ask again."""
        item = await self._items.get()
        if isinstance(item, RunnerFailed | AnswerNotRead):
            self._items.put_nowait(item)
            raise item
        return item

    def _end(self) -> None:
        if self._on_over is not None:
            self._on_over()
