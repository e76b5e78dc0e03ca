"""Garbage collection: a pure mark, and a careful sweep that goes through the trash.

Nothing goes that a manifest names, a living process leases, a recent upload claims or anybody
has open; while any manifest is unreadable nobody knows what it names, so nothing goes at all.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from .blobs import BlobInfo, BlobKind
from .claims import claimed_digests, drop_claims, sweep_claims
from .conversations import forget_conversations
from .durable import disk_error
from .errors import Conflict
from .leases import held_digests, sweep_leases
from .locks import collecting
from .manifests import Unreadable
from .opened import is_open_elsewhere
from .partials import Partial, expired_partials, remove_partial
from .store import Store


class GcRefused(Conflict):
    """A manifest can't be read, so what it needs is unknown."""

    code = "gc_refused"


class Keeper(StrEnum):
    """What keeps a blob although no manifest names it."""

    LEASE = "leased by a running process"
    CLAIM = "just published, waits for its manifest"
    OPEN = "open in another process"


@dataclass(frozen=True, slots=True)
class Roots:
    """Every reason to keep a blob, gathered while nobody publishes."""

    referenced: frozenset[str]
    leased: frozenset[str]
    claimed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Kept:
    """A blob without a manifest that stays for now."""

    digest: str
    size_bytes: int
    keeper: Keeper


@dataclass(frozen=True, slots=True)
class Collected:
    """What went (or would go, in a dry run) and what stays without a manifest."""

    deleted: tuple[BlobInfo, ...]
    kept: tuple[Kept, ...]
    partials: tuple[Partial, ...]
    freed_bytes: int


def mark(present: Collection[str], roots: Roots) -> tuple[list[str], dict[str, Keeper]]:
    """Splits the blobs that no manifest names: garbage, and what else keeps the others."""
    orphans = [digest for digest in present if digest not in roots.referenced]
    kept = {digest: Keeper.CLAIM for digest in orphans if digest in roots.claimed}
    kept |= {digest: Keeper.LEASE for digest in orphans if digest in roots.leased}
    return [digest for digest in orphans if digest not in kept], kept


def collect(
    store: Store,
    *,
    dry_run: bool = False,
    only: Collection[str] | None = None,
    now_s: float | None = None,
) -> Collected:
    """Deletes the garbage; with `only`, no other blobs than these and no partial files.

    Raises GcRefused while a manifest is unreadable.
    """
    now_s = time.time() if now_s is None else now_s
    with collecting(store.layout):
        collected = _decide(store, only, now_s)
        if not dry_run:
            _throw_away(store, collected)
            sweep_leases(store.layout)
            sweep_claims(store.layout, now_s=now_s)
    if not dry_run:
        _empty_trash(store)
    return collected


def _decide(store: Store, only: Collection[str] | None, now_s: float) -> Collected:
    blobs = {blob.digest: blob for blob in store.blobs.list()}
    garbage, keepers = mark(blobs, _roots(store, now_s))
    if only is not None:
        garbage = [digest for digest in garbage if digest in only]
    opened = {digest for digest in garbage if is_open_elsewhere(store.layout.blob(digest))}
    keepers |= dict.fromkeys(opened, Keeper.OPEN)
    deleted = tuple(blobs[digest] for digest in garbage if digest not in opened)
    partials = tuple(expired_partials(store.layout, now_s=now_s)) if only is None else ()
    freed = sum(_freed_bytes(store, blob) for blob in deleted)
    return Collected(
        deleted,
        _kept(blobs, keepers),
        partials,
        freed + sum(partial.size_bytes for partial in partials),
    )


def _roots(store: Store, now_s: float) -> Roots:
    manifests, unreadable = store.manifests.list()
    _refuse_unreadable(unreadable)
    return Roots(
        referenced=frozenset(d for stored in manifests for d in stored.manifest.blobs()),
        leased=held_digests(store.layout),
        claimed=claimed_digests(store.layout, now_s=now_s),
    )


def _refuse_unreadable(unreadable: list[Unreadable]) -> None:
    if not unreadable:
        return
    first = unreadable[0]
    others = f" and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
    raise GcRefused(
        f"nothing is deleted while a manifest is unreadable: {first.path} ({first.reason}){others}"
    )


def _kept(blobs: Mapping[str, BlobInfo], keepers: Mapping[str, Keeper]) -> tuple[Kept, ...]:
    return tuple(
        Kept(digest, blobs[digest].size_bytes, keeper) for digest, keeper in sorted(keepers.items())
    )


def _freed_bytes(store: Store, blob: BlobInfo) -> int:
    """Nothing for a file that its owner still has."""
    if blob.kind is BlobKind.IN_PLACE:
        return 0
    if blob.kind is BlobKind.ADOPTED and store.layout.blob(blob.digest).stat().st_nlink > 1:
        return 0
    return blob.size_bytes


def _throw_away(store: Store, collected: Collected) -> None:
    layout = store.layout
    for blob in collected.deleted:
        try:
            layout.blob(blob.digest).rename(layout.trashed(blob.digest))
        except OSError as error:
            raise disk_error(error, f"removing blob {blob.digest}") from error
        layout.watch(blob.digest).unlink(missing_ok=True)
        layout.origin(blob.digest).unlink(missing_ok=True)
    forget_conversations(layout, (blob.digest for blob in collected.deleted))
    drop_claims(layout, (blob.digest for blob in collected.deleted))
    for partial in collected.partials:
        remove_partial(partial)


def _empty_trash(store: Store) -> None:
    """Unlinks outside the lock, because that takes long for big files; a crash loses nothing."""
    for path in store.layout.trash.iterdir():
        path.unlink(missing_ok=True)
