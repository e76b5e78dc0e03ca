"""Responses that nobody waits for: generated in tasks, fetched by their ids, or cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Final

from aiohttp import web
from qm.store.errors import InvalidRequest, QmError

from ..chat.request import JsonObject
from ..logs import Log

log = Log("http")

UNFINISHED: Final = ("queued", "in_progress")


class NotInBackground(InvalidRequest):
    """Only what runs in the background can be cancelled: for the rest, hang up."""

    code = "not_in_background"

    def __init__(self) -> None:
        super().__init__("only a response with background: true can be cancelled")


class Background:
    """Owns one task for each response under way."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, document: JsonObject, answer: Awaitable[object]) -> None:
        """Generates `answer`, which writes to `document`; its failure is written there too."""
        task = asyncio.create_task(_written(document, answer))
        self._tasks[document["id"]] = task
        task.add_done_callback(lambda _: self._tasks.pop(document["id"], None))

    def cancel(self, document: JsonObject) -> None:
        """Ends the response, if it is still under way. Raises NotInBackground."""
        if not document["background"]:
            raise NotInBackground
        if task := self._tasks.get(document["id"]):
            document["status"] = "cancelled"
            task.cancel()

    async def until_closed(self, _app: web.Application) -> AsyncGenerator[None]:
        """For `Application.cleanup_ctx`: no task outlives the application."""
        yield
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _written(document: JsonObject, answer: Awaitable[object]) -> None:
    error: JsonObject = {"code": "server_error", "message": "internal error; see the log (qm logs)"}
    try:
        await answer
    except QmError as failure:
        log.warning("response_failed", id=document["id"], code=failure.code)
        error["message"] = failure.message
    finally:
        if document["status"] in UNFINISHED:
            document |= {"status": "failed", "error": error}
