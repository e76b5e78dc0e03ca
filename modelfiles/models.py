"""The models that requests ask for, read once and again only when a file of theirs has changed."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias

from qm.store.name import Name
from qm.store.store import Store

from .model import Model, load_model

_MOST_MODELS: Final = 64
_Stamp: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Known:
    """A model, and how each of its files looked just before it was read."""

    model: Model
    stamps: tuple[tuple[str, _Stamp | None], ...]


class Models:
    """Reading a model takes parsing and a thread; asking whether it is still so takes neither."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[Name, _Known] = OrderedDict()

    async def model(self, name: Name) -> Model:
        """As `load_model`, and raises the same."""
        known = self._unchanged(name)
        return await asyncio.to_thread(self._read, name) if known is None else known

    def _unchanged(self, name: Name) -> Model | None:
        known = self._known.get(name)
        if known is None or any(_stamp(path) != stamp for path, stamp in known.stamps):
            return None
        return known.model

    def _read(self, name: Name) -> Model:
        """Remembers what is in this store; of others no file is where it is looked for."""
        stored, layout = self._store.manifests.read(name), self._store.layout
        parts = (stored.manifest.config, *stored.manifest.layers)
        files = (layout.manifest(stored.name), *(layout.blob(part.digest) for part in parts))
        stamps = tuple((path, _stamp(path)) for path in map(str, files))
        model = load_model(self._store, name)
        if model.digest == stored.digest and all(stamp for _, stamp in stamps):
            self._known[name] = _Known(model, stamps)
            self._known.move_to_end(name)
            if len(self._known) > _MOST_MODELS:
                self._known.popitem(last=False)
        return model


def _stamp(path: str) -> _Stamp | None:
    """What a file can't change without; of a link, that of the file. None: it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116  every request asks, and a Path takes thrice as long
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
