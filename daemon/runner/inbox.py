"""What a child has answered to one request, until that is read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from . import wire
from .failures import AnswerNotRead, RunnerFailed

UNREAD_LIMIT: Final = 8192  # answers that wait for one slow reader before its request is cut

_Item: TypeAlias = wire.FromRunner | RunnerFailed | AnswerNotRead


class Inbox:
    """Answers in order, or why there will be none.

    `on_over` is called once no more will come, however much is left to read: right after whoever
    waits has what came, since a client waits for that.
    """

    def __init__(self, on_over: Callable[[], None] | None = None) -> None:
        self._items: deque[_Item] = deque()
        self._reader: asyncio.Future[None] | None = None  # waits for an item
        self._on_over = on_over

    def fail(self, failure: RunnerFailed) -> None:
        """All who read on from here get `failure`."""
        self._add(failure)

    def deliver(self, answer: wire.FromRunner) -> None:
        """Adds an answer. Raises AnswerNotRead when too many wait: the reader has lost the rest."""
        if len(self._items) >= UNREAD_LIMIT:
            cut = AnswerNotRead("the answer was not read for too long; it was cut")
            self._add(cut)
            self._end()
            raise cut
        unread = bool(self._items)
        self._add(answer)
        # Whoever reads at once that it failed may ask again: for a shorter prompt, for one.
        if isinstance(answer, wire.Done) or (unread and isinstance(answer, wire.Failed)):
            self._end()

    async def read(self) -> wire.FromRunner:
        """The next answer, for one reader. Raises RunnerFailed or AnswerNotRead, also to those who
        ask again.
        """
        while not self._items:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        item = self._items[0]
        if isinstance(item, RunnerFailed | AnswerNotRead):
            raise item
        self._items.popleft()
        return item

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _end(self) -> None:
        if self._on_over is not None:
            asyncio.get_running_loop().call_soon(self._on_over)
