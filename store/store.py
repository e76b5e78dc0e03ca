"""One store: its layout, blobs and manifests, opened."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .blobs import Blobs
from .durable import replace_file
from .errors import Unavailable
from .filesystem import network_file_system
from .hashing import digest_text
from .layout import Layout
from .leases import Lease
from .location import StoreUnreachable, find_root
from .locks import publishing
from .manifests import Manifests

_log = logging.getLogger(__name__)


class StoreUnavailable(Unavailable):
    """The store's directory can't be used; says why."""

    code = "store_unavailable"


@dataclass(frozen=True, slots=True)
class Store:
    """What the rest of qm works with."""

    layout: Layout
    blobs: Blobs
    manifests: Manifests


def open_store(root: Path, others: Sequence[Path] | None = None) -> Store:
    """The store of `root`, made if it is not there; raises StoreUnavailable, StoreUnreachable.

    It may have been moved elsewhere: see `location.py`. What it lacks is read from `others`, which
    are remembered until they are given anew.
    """
    layout = Layout(find_root(root.absolute()))
    try:
        layout.create()
        with publishing(layout):
            pass
    except OSError as error:
        raise StoreUnavailable(f"can't use the store {root}: {error.strerror}") from error
    if (kind := network_file_system(layout.root)) is not None:
        _log.warning("store_on_network_file_system path=%s type=%s", layout.root, kind)
    if not os.access(layout.root, os.W_OK | os.X_OK):
        raise StoreUnavailable(f"can't use the store {layout.root}: no permission to write")
    if others is not None:
        _remember(layout, others)
    known = _others(layout)
    blobs = Blobs(layout, known)
    return Store(layout, blobs, Manifests(layout, blobs, known))


def put_leased(store: Store, lease: Lease, data: bytes) -> tuple[str, bool]:
    """The digest of a blob with these bytes, and whether it was put there now.

    First the lease, then the look: what is there already can't be collected in between.
    """
    digest = digest_text(sha256(data).hexdigest())
    lease.add(digest)
    new = not store.blobs.has(digest)
    if new:
        store.blobs.put(data)
    return digest, new


def _remember(layout: Layout, others: Sequence[Path]) -> None:
    text = "".join(f"{path.absolute()}\n" for path in others)
    if text or layout.alternates.exists():
        with publishing(layout):
            replace_file(layout.alternates, text.encode(), temporary_in=layout.partial)


def _others(layout: Layout) -> tuple[Layout, ...]:
    try:
        lines = layout.alternates.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(Layout(_moved(Path(line))) for line in lines if line)


def _moved(other: Path) -> Path:
    """Where another store is now; its disk may be unplugged, then its models are missing."""
    try:
        return find_root(other)
    except StoreUnreachable as error:
        _log.warning("other_store_unreachable path=%s reason=%s", other, error)
        return other
