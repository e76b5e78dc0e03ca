"""Where the disk space went: what `qm df` prints."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from .blobs import BlobInfo, BlobKind
from .manifests import StoredManifest, Unreadable
from .partials import Partial, list_partials
from .store import Store


@dataclass(frozen=True, slots=True)
class BlobUse:
    """A blob and the models that need it; an orphan has none.

    `source` is the user's file that it shares its bytes with.
    """

    digest: str
    size_bytes: int
    kind: BlobKind
    models: tuple[str, ...]
    source: str | None = None

    @property
    def is_shared(self) -> bool:
        return len(self.models) > 1


@dataclass(frozen=True, slots=True)
class ModelUse:
    """`own_bytes` would be free without the model, `shared_bytes` others need too."""

    name: str
    own_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The whole store's use of its disk."""

    blobs: tuple[BlobUse, ...]
    models: tuple[ModelUse, ...]
    partials: tuple[Partial, ...]
    unreadable: tuple[Unreadable, ...]
    disk_free_bytes: int
    disk_total_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(blob.size_bytes for blob in self.blobs)

    @property
    def orphans(self) -> tuple[BlobUse, ...]:
        return tuple(blob for blob in self.blobs if not blob.models)

    @property
    def orphan_bytes(self) -> int:
        return sum(blob.size_bytes for blob in self.orphans)

    @property
    def partial_bytes(self) -> int:
        return sum(partial.size_bytes for partial in self.partials)


def usage(store: Store) -> Usage:
    """What is stored, for whom, and how much room is left."""
    manifests, unreadable = store.manifests.list()
    blobs = tuple(uses_of_blobs(store.blobs.list(), manifests))
    disk = shutil.disk_usage(store.layout.root)
    return Usage(
        blobs=blobs,
        models=tuple(uses_of_models(blobs, manifests)),
        partials=tuple(list_partials(store.layout)),
        unreadable=tuple(unreadable),
        disk_free_bytes=disk.free,
        disk_total_bytes=disk.total,
    )


def uses_of_blobs(
    blobs: Iterable[BlobInfo], manifests: Iterable[StoredManifest]
) -> Iterable[BlobUse]:
    """Each blob with its users, in the order of `blobs`."""
    users: defaultdict[str, list[str]] = defaultdict(list)
    for stored in manifests:
        for digest in stored.manifest.blobs():
            users[digest].append(str(stored.name))
    for blob in blobs:
        models = tuple(users[blob.digest])
        yield BlobUse(blob.digest, blob.size_bytes, blob.kind, models, blob.source)


def uses_of_models(
    blobs: Iterable[BlobUse], manifests: Iterable[StoredManifest]
) -> Iterable[ModelUse]:
    """Each model's own and shared bytes."""
    by_digest = {blob.digest: blob for blob in blobs}
    for stored in manifests:
        used = [by_digest[d] for d in stored.manifest.blobs() if d in by_digest]
        shared = sum(blob.size_bytes for blob in used if blob.is_shared)
        total = sum(blob.size_bytes for blob in used)
        yield ModelUse(str(stored.name), total - shared, shared)
