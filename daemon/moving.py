"""`qm store move`: the daemon's store moves while it serves.

blobs and the rest come over in a job → no job runs any more → what changed meanwhile, and the
switch → models loaded from the old place are unloaded once their answers are through → clean up
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, TypeAlias

from qm.store.errors import Conflict
from qm.store.layout import Layout
from qm.store.move import Move, StoreInUse, bring, clean, switch

from .instance import claimed
from .logs import Log
from .services import Services

JsonObject: TypeAlias = dict[str, Any]  # Any: a JSON document

WAIT_LIMIT_S = 60.0  # for uploads, once no job runs
_POLL_S = 0.1
_log = Log("moving")


class MoveUnderWay(Conflict):
    """The store is being moved already."""

    code = "move_under_way"


async def move_store(services: Services, target: Path) -> AsyncGenerator[JsonObject]:
    """Progress, then the new place. Closed before the switch, it can be asked for again and goes
    on; behind it, it goes through. Raises MoveUnderWay and what `qm.store.move` raises.
    """
    lifecycle, home = services.lifecycle, services.settings.home
    if lifecycle.moving is not None and not lifecycle.moving.done():
        raise MoveUnderWay("the store is being moved already")
    async for step in services.jobs.run("move", {"path": str(target)}):
        if step.get("status") != "success":
            yield step
    yield {"status": "waiting for running jobs"}
    move = Move(home, Layout(services.store.layout.root), Layout(target))
    lifecycle.moving = asyncio.create_task(_change_over(services, move), name="move")
    lifecycle.moving.add_done_callback(_log_failure)
    await asyncio.shield(lifecycle.moving)
    yield {"status": "success", "path": str(target), "source": str(move.source.root)}


async def _change_over(services: Services, move: Move) -> None:
    async with services.jobs.paused():
        await asyncio.to_thread(bring, move)
        _claim(services, move.target.root)
        await _switch(services, move)
        services.supervisor.store_moved()
    _log.info("store_moved", source=move.source.root, target=move.target.root)
    for model in services.supervisor.loaded():
        await services.supervisor.unload(model.name)
    await asyncio.to_thread(clean, move)


def _claim(services: Services, place: Path) -> None:
    """Keeps other daemons out. Raises AlreadyServed."""
    lifecycle = services.lifecycle
    if place not in lifecycle.claimed:
        lifecycle.claims.enter_context(claimed(place, services.settings.socket))
        lifecycle.claimed.add(place)


async def _switch(services: Services, move: Move) -> None:
    """Waits for uploads that are under way."""
    until_s = time.monotonic() + WAIT_LIMIT_S
    while True:
        try:
            return await asyncio.to_thread(switch, move, services.store.layout)
        except StoreInUse:
            if time.monotonic() > until_s:
                raise
        await asyncio.sleep(_POLL_S)


def _log_failure(task: asyncio.Task[None]) -> None:
    """Whoever asked may have left."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("move_failed", error=error)
