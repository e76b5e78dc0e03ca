"""The one step that makes a blob visible: claim → link into place → fsync directory."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from .claims import claim
from .durable import disk_error, sync_directory
from .hashing import hash_file
from .layout import Layout
from .locks import naming, publishing
from .watch import Watch, read_watch, write_watch

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def publish(layout: Layout, temporary: Path, digest: str, *, watch: Watch | None = None) -> bool:
    """Makes a complete, fsynced file the blob `digest`; False if a sound one was there already.

    `temporary` stays for its owner to remove. An existing blob is read again; if it is damaged,
    the new file takes its place.
    """
    try:
        with publishing(layout):
            claim(layout, digest)
            if watch is None:
                placed = _place(layout, temporary, digest)
            else:
                placed = _place_watched(layout, temporary, digest, watch)
        if placed:
            return True
        sound = _is_sound(layout.blob(digest), digest, temporary)
        if sound is None:
            return publish(layout, temporary, digest, watch=watch)
        if sound:
            sync_directory(layout.blobs)  # its publisher may not have got that far
            return False
        _replace(layout, temporary, digest, watch)
    except OSError as error:
        raise disk_error(error, f"publishing {digest}") from error
    return True


def publish_in_place(layout: Layout, source: Path, digest: str, watch: Watch) -> bool:
    """Makes a user's file, where it is, the blob `digest`; False if its own file is here already.

    The record comes before the link: until both agree the blob is refused.
    """
    temporary = layout.partial / f"link-{secrets.token_hex(12)}"
    try:
        with publishing(layout), naming(layout):
            claim(layout, digest)
            if _is_own(layout, digest):
                return False
            temporary.symlink_to(source)
            write_watch(layout, digest, watch)
            temporary.rename(layout.blob(digest))
            sync_directory(layout.blobs)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, f"publishing {digest}") from error
    return True


def _is_own(layout: Layout, digest: str) -> bool:
    """Whether a sound file of the store has the blob's name."""
    path = layout.blob(digest)
    if path.is_symlink() or not path.exists():
        return False
    watch, status = read_watch(layout, digest), path.stat()
    return watch is None or not watch.is_about(status) or watch.difference(status) is None


def _place(layout: Layout, temporary: Path, digest: str) -> bool:
    try:
        placed = _link(temporary, layout.blob(digest))
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        placed = _rename_into_place(layout, temporary, digest)
    if not placed:
        return False
    layout.watch(digest).unlink(missing_ok=True)  # left by an adoption that died before its link
    sync_directory(layout.blobs)
    return True


def _place_watched(layout: Layout, temporary: Path, digest: str, watch: Watch) -> bool:
    """The record comes before the blob; the lock keeps another adoption from changing it."""
    with naming(layout):
        if os.path.lexists(layout.blob(digest)):
            return False
        write_watch(layout, digest, watch)
        placed = _link(temporary, layout.blob(digest))
    sync_directory(layout.blobs)
    return placed


def _link(temporary: Path, target: Path) -> bool:
    try:
        os.link(temporary, target, follow_symlinks=False)
    except FileExistsError:
        return False
    return True


def _rename_into_place(layout: Layout, temporary: Path, digest: str) -> bool:
    """For file systems without hard links: the lock stands in for link's exclusiveness."""
    with naming(layout):
        if os.path.lexists(layout.blob(digest)):
            return False
        temporary.rename(layout.blob(digest))
        return True


def _is_sound(path: Path, digest: str, temporary: Path) -> bool | None:
    """None when the blob was collected a moment ago, for want of a lease.

    A file that is used in place never counts: the store's own is worth more.
    """
    if path.is_symlink():
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        same_file = os.path.samestat(os.fstat(fd), temporary.lstat())  # it was hashed just now
        return same_file or hash_file(fd) == digest
    finally:
        os.close(fd)


def _replace(layout: Layout, temporary: Path, digest: str, watch: Watch | None) -> None:
    """A record that is about another file than the blob is harmless, so it may come first."""
    with publishing(layout), naming(layout):
        if watch is not None:
            write_watch(layout, digest, watch)
        temporary.rename(layout.blob(digest))
        if watch is None:
            layout.watch(digest).unlink(missing_ok=True)
        sync_directory(layout.blobs)
