"""Leases: what a living process needs, whether or not a manifest names it yet."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .durable import disk_error, sync_file
from .errors import Conflict
from .layout import InvalidDigest, Layout, parse_digest
from .locks import collecting, publishing, try_lock

__all__ = ["Lease", "LeaseUnreadable", "collecting", "held_digests", "hold", "publishing"]


class LeaseUnreadable(Conflict):
    """A living holder's lease can't be read, so nobody knows what it needs."""

    code = "lease_unreadable"


class Lease:
    """Digests that garbage collection must keep for as long as the holder lives."""

    def __init__(self, layout: Layout, fd: int) -> None:
        self._layout = layout
        self._fd = fd
        self._size_bytes = 0

    def add(self, *digests: str) -> None:
        """Keeps these too; take the lease before looking whether a blob is there."""
        lines = b"".join(f"{parse_digest(digest)}\n".encode() for digest in digests)
        with publishing(self._layout):
            try:
                written = os.pwrite(self._fd, lines, self._size_bytes)
                if written == len(lines):
                    sync_file(self._fd)
            except OSError as error:
                os.ftruncate(self._fd, self._size_bytes)
                raise disk_error(error, "writing a lease", len(lines)) from error
            if written != len(lines):
                os.ftruncate(self._fd, self._size_bytes)
                raise disk_error(
                    OSError(errno.ENOSPC, "short write"), "writing a lease", len(lines)
                )
            self._size_bytes += written


@contextmanager
def hold(layout: Layout, digests: Iterable[str] = ()) -> Iterator[Lease]:
    """A lease on `digests`; it ends with the context, or with the process."""
    path = layout.leases / secrets.token_hex(12)
    with publishing(layout):  # so that nobody sees the file before its lock
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        assert try_lock(fd), "only a collector looks at others' leases, and it is kept out"
    try:
        lease = Lease(layout, fd)
        lease.add(*digests)
        yield lease
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def held_digests(layout: Layout) -> frozenset[str]:
    """What living processes hold. Call it under `collecting`."""
    held: set[str] = set()
    for path in layout.leases.iterdir():
        with _opened(path) as fd:
            if fd is not None and not try_lock(fd):
                held |= _parse(os.pread(fd, os.fstat(fd).st_size, 0), path)
    return frozenset(held)


def sweep_leases(layout: Layout) -> None:
    """Removes the leases of dead processes. Call it under `collecting`."""
    for path in layout.leases.iterdir():
        with _opened(path) as fd:
            if fd is not None and try_lock(fd):
                path.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """The lease's descriptor, None when it was released a moment ago."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _parse(data: bytes, path: Path) -> set[str]:
    try:
        return {parse_digest(line) for line in data.decode("ascii").splitlines()}
    except (UnicodeDecodeError, InvalidDigest) as error:
        raise LeaseUnreadable(f"the lease {path} of a running process is unreadable") from error
