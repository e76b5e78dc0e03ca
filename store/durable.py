"""Small steps that survive a power cut: the vocabulary of every publication."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import sys
from pathlib import Path

from .errors import QmError

_FULL_FSYNC = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone leaves the drive's cache
_FICLONE = 0x40049409  # linux/fs.h: share the other file's extents
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StoreFull(QmError):
    """The disk, quota or file size limit leaves no room."""

    status = 507
    code = "store_full"


class StoreFailed(QmError):
    """The disk refused a write; what was being published was dropped."""

    code = "store_failed"


def disk_error(error: OSError, doing: str, needed_bytes: int | None = None) -> QmError:
    """The typed error for a failed system call, naming the bytes that were needed."""
    if error.errno in _NO_SPACE:
        wanted = "" if needed_bytes is None else f" ({needed_bytes} bytes needed)"
        return StoreFull(f"no space left while {doing}{wanted}; free some with: qm rm, qm gc")
    return StoreFailed(f"the disk failed while {doing}: {error.strerror or error}")


def sync_file(fd: int) -> None:
    """Returns when the file's bytes are on the disk."""
    if _FULL_FSYNC is not None and sys.platform == "darwin":
        fcntl.fcntl(fd, _FULL_FSYNC)
        return
    os.fsync(fd)


def sync_directory(path: Path) -> None:
    """Returns when the directory's entries are on the disk."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise disk_error(error, f"writing the directory {path.name}") from error


def clone(fd: int, source_fd: int) -> bool:
    """Lets the empty file `fd` share the bytes of another; False where that can't be."""
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(fd, _FICLONE, source_fd)
    except OSError:  # another file system, or one without reflinks: the caller copies
        return False
    return True


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Writes every byte; the kernel may take them in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def replace_file(path: Path, data: bytes, *, temporary_in: Path) -> None:
    """Puts `data` at `path`: after any crash the file is the old one or the new one.

    Under `publishing` where `temporary_in` is the store's: else the file there may be collected.
    """
    temporary = temporary_in / f"replace-{secrets.token_hex(8)}"
    try:
        replace_through(temporary, path, data)
    except QmError:
        temporary.unlink(missing_ok=True)
        raise


def replace_through(temporary: Path, path: Path, data: bytes) -> None:
    """The same by way of a file that is not there yet; a failure may leave it behind."""
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            write_all(fd, data)
            sync_file(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
    except OSError as error:
        raise disk_error(error, f"writing {path.name}", len(data)) from error
    sync_directory(path.parent)
