"""Reading everything back: are the bytes still those that the names promise?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from .blobs import BlobChanged, BlobCorrupt, BlobMissing
from .hashing import Progress
from .manifests import Unreadable
from .name import Name
from .store import Store
from .watch import WatchUnreadable


@dataclass(frozen=True, slots=True)
class BadBlob:
    """A blob that can't be trusted, the models that need it, and why."""

    digest: str
    models: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """How many blobs were read, and what is wrong."""

    checked: int
    bad: tuple[BadBlob, ...]
    unreadable: tuple[Unreadable, ...]


def verify_store(
    store: Store, name: Name | None = None, *, on_progress: Progress | None = None
) -> Verified:
    """Reads the blobs of the model `name`, or of the whole store with what no model names."""
    wanted, unreadable = _wanted(store, name)
    counter = _Counter(_total_bytes(store, wanted), on_progress)
    bad = [
        BadBlob(digest, wanted[digest], reason)
        for digest in wanted
        if (reason := _reason(store, digest, counter)) is not None
    ]
    return Verified(len(wanted), tuple(bad), unreadable)


def _wanted(
    store: Store, name: Name | None
) -> tuple[Mapping[str, tuple[str, ...]], tuple[Unreadable, ...]]:
    """The digests to read, each with the models that need it."""
    users: defaultdict[str, list[str]] = defaultdict(list)
    manifests, unreadable = store.manifests.list()
    for stored in manifests:
        for digest in stored.manifest.blobs():
            users[digest].append(str(stored.name))
    everything = {digest: tuple(names) for digest, names in users.items()}
    if name is not None:
        digests = store.manifests.read(name).manifest.blobs()
        return {digest: everything.get(digest, (str(name),)) for digest in digests}, ()
    everything |= {blob.digest: () for blob in store.blobs.list() if blob.digest not in everything}
    return everything, tuple(unreadable)


class _Counter:
    """Turns the progress of single blobs into that of them all."""

    def __init__(self, total_bytes: int, on_progress: Progress | None) -> None:
        self._total_bytes = total_bytes
        self._before_bytes = 0
        self._on_progress = on_progress

    def __call__(self, done_bytes: int, _blob_bytes: int) -> None:
        if self._on_progress is not None:
            self._on_progress(self._before_bytes + done_bytes, self._total_bytes)

    def finish(self, blob_bytes: int) -> None:
        self._before_bytes += blob_bytes


def _total_bytes(store: Store, wanted: Mapping[str, object]) -> int:
    return sum(blob.size_bytes for blob in store.blobs.list() if blob.digest in wanted)


def _reason(store: Store, digest: str, counter: _Counter) -> str | None:
    """What is wrong with the blob, None when nothing is."""
    try:
        store.blobs.verify(digest, counter)
        counter.finish(store.blobs.size(digest))
    except (BlobMissing, BlobChanged, BlobCorrupt, WatchUnreadable) as error:
        return error.message
    return None
