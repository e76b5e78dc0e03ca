"""Puts conversations away when the model is unloaded, and brings them back when they go on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from . import cells
from .clearing import clear_for
from .llama import Context
from .slots import Slot, Slots
from .snapshots import LEAST_TOKENS, Snapshot, Snapshots

SAVE_LIMIT_S: Final = 2.0  # no further conversation is begun after that; the daemon waits for us


@dataclass(slots=True, eq=False)
class Stored:
    """A snapshot on its way from the disk. Those who want the same share it."""

    snapshot: Snapshot
    ready: bool = False
    state: memoryview | None = None  # None: the file was not what it should be


class Warmth:
    """Moves slots between the KV cache and the disk. `wake` is called from another thread."""

    def __init__(
        self, context: Context, slots: Slots, snapshots: Snapshots, wake: Callable[[], None]
    ) -> None:
        self._context = context
        self._slots = slots
        self._snapshots = snapshots
        self._wake = wake
        self._under_way: list[Stored] = []

    def find(self, prompt: list[int], cached: int) -> Stored | None:
        """A snapshot that has clearly more of `prompt` than `cached` tokens, not yet read."""
        found = self._snapshots.best(prompt, cached, self._context.floor)
        if found is None:
            return None
        self._under_way = [stored for stored in self._under_way if not stored.ready]
        for stored in self._under_way:
            if stored.snapshot is found:
                return stored
        stored = Stored(found)
        self._under_way.append(stored)
        threading.Thread(target=self._read, args=(stored,), name="stored", daemon=True).start()
        return stored

    def bring_back(self, stored: Stored, prompt: list[int], cached: int) -> None:
        """Puts it into an idle slot, unless the cache has as much of `prompt` by now."""
        found, state = stored.snapshot, stored.state
        if state is None or self._snapshots.best(prompt, cached, self._context.floor) is not found:
            return
        slot = self._slots.spare()
        if slot is None:
            return
        self._clear(slot)
        needed = len(found.tokens) + cells.beyond(found.tokens)
        if clear_for(needed, self._context, self._slots):
            self._restore(slot, found, state)

    def put_away(self) -> None:
        """Writes what idle slots hold, the last used first."""
        until_s = time.monotonic() + SAVE_LIMIT_S
        for slot in sorted(self._slots.idle(), key=lambda slot: -slot.used_at):
            if len(slot.cached) < LEAST_TOKENS or self._snapshots.has(slot.cached):
                continue
            if time.monotonic() > until_s:
                return
            try:
                self._snapshots.save(slot.cached, slot.packed or self._context.state(slot.id))
            except OSError as error:
                sys.stderr.write(f"a conversation could not be put away: {error}\n")
                return

    def _read(self, stored: Stored) -> None:
        try:
            stored.state = self._snapshots.read(stored.snapshot)
        finally:
            stored.ready = True
            self._wake()

    def _restore(self, slot: Slot, snapshot: Snapshot, state: memoryview) -> None:
        length = len(snapshot.tokens)
        if not self._context.restore(slot.id, state):
            self._snapshots.drop(snapshot)
            self._clear(slot)
            return
        self._slots.take(slot)
        slot.grow(length)
        self._slots.give_back(slot, list(snapshot.tokens))
        slot.guarded = length
        slot.floor = self._context.floor(length)

    def _clear(self, slot: Slot) -> None:
        self._context.remove(slot.id, -1)
        self._slots.empty(slot)
