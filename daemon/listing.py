"""The summaries of all models: made once for each, and again when its manifest changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from qm.modelfiles.model import Summary, summarize
from qm.store.errors import QmError
from qm.store.manifests import StoredManifest
from qm.store.store import Store


@dataclass(frozen=True, slots=True)
class Listed:
    """One model: its summary, or why it has none."""

    stored: StoredManifest
    summary: Summary | None
    reason: str = ""


@dataclass(slots=True)
class Listing:
    """Every model of a store. Call it from any thread."""

    store: Store
    _sound: dict[int, Listed] = field(default_factory=dict)

    def newest_first(self) -> list[Listed]:
        """A damaged model is in it too; it is looked at anew each time."""
        stored, _ = self.store.manifests.list()
        before = self._sound
        listed = [self._listed(entry, before.get(id(entry))) for entry in stored]
        self._sound = {id(each.stored): each for each in listed if each.summary is not None}
        return sorted(listed, key=lambda each: each.stored.modified_s, reverse=True)

    def _listed(self, stored: StoredManifest, known: Listed | None) -> Listed:
        if known is not None and known.stored is stored:
            return known
        try:
            return Listed(stored, summarize(self.store, stored))
        except (QmError, OSError) as error:
            return Listed(stored, None, str(error))
