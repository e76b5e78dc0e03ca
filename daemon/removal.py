"""Removing a model: out of memory first, then its name, then what nobody else needs."""

from __future__ import annotations

import asyncio

from qm.store.gc import GcRefused, collect
from qm.store.name import Name

from .logs import Log
from .services import Services

log = Log("removal")


async def remove(services: Services, name: Name) -> int:
    """Bytes that were freed on the disk. Raises ModelNotFound."""
    stored = await asyncio.to_thread(services.store.manifests.find, name)
    await services.supervisor.unload(str(stored))
    removed = await asyncio.to_thread(services.store.manifests.delete, stored)
    if removed is None:  # its manifest was damaged, so nobody knows what it needed
        return 0
    try:
        only = removed.manifest.blobs()
        collected = await asyncio.to_thread(collect, services.store, only=only)
    except GcRefused as error:  # the model is gone; its blobs wait until that is mended
        log.warning("blobs_kept", model=stored, reason=error)
        return 0
    return collected.freed_bytes
