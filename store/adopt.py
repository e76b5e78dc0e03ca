"""Taking a GGUF file of the user into the store, without copying it where that is possible."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .durable import disk_error, sync_file
from .errors import Conflict, InvalidRequest
from .hashing import Progress, chunks, hash_file
from .layout import Layout
from .publish import publish
from .watch import Watch
from .writer import open_writer

_MAGIC = b"GGUF"
_MAX_HEADER_BYTES = 100_000_000  # the limit that safetensors itself sets
_CANT_LINK = {
    errno.EXDEV,
    errno.EPERM,
    errno.EACCES,
    errno.EMLINK,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
}


class NotAGguf(InvalidRequest):
    """One answer for all that is no readable regular file of weights, so it discloses nothing."""

    code = "not_a_gguf"


class SourceChanged(Conflict):
    """The file was written to while it was read."""

    code = "source_changed"


class How(StrEnum):
    """The way a file's bytes came into the store."""

    LINK = "link"
    REFLINK = "reflink"
    COPY = "copy"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Adoption:
    """An adopted file's blob."""

    digest: str
    size_bytes: int
    how: How


def adopt(layout: Layout, path: Path, *, on_progress: Progress | None = None) -> Adoption:
    """The file at `path` as a blob: a reflink, else a watched hard link, else a copy."""
    with _open_gguf(path) as fd:
        before = os.fstat(fd)
        adoption = (
            _reflink(layout, fd, on_progress)
            or _link(layout, fd, path, on_progress)
            or _copy(layout, fd, on_progress)
        )
        _refuse_changed(path, before, os.fstat(fd))
        return adoption


@contextmanager
def _open_gguf(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _not_a_gguf(path) from error
    try:
        if not _looks_like_weights(fd):
            raise _not_a_gguf(path)
        yield fd
    finally:
        os.close(fd)


def _looks_like_weights(fd: int) -> bool:
    """GGUF by its magic; safetensors by a sensible header length before a JSON object."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return False
    try:
        start = os.pread(fd, 9, 0)
    except OSError:  # files of /proc fail in ways of their own
        return False
    if start.startswith(_MAGIC):
        return True
    header_bytes = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and header_bytes <= min(_MAX_HEADER_BYTES, status.st_size - 8)


def _not_a_gguf(path: Path) -> NotAGguf:
    return NotAGguf(f"no readable GGUF file at {str(path)!r}")


def _reflink(layout: Layout, fd: int, on_progress: Progress | None) -> Adoption | None:
    with open_writer(layout) as writer:
        if not writer.clone(fd, on_progress):
            return None
        digest, new = writer.commit_new()
    return Adoption(digest, writer.written_bytes, How.REFLINK if new else How.PRESENT)


def _link(layout: Layout, fd: int, path: Path, on_progress: Progress | None) -> Adoption | None:
    before = os.fstat(fd)
    with _linked(layout, fd, path) as probe:
        if probe is None:  # found out before the file is read
            return None
    digest = hash_file(fd, on_progress)
    sync_file(fd)
    _refuse_changed(path, before, os.fstat(fd))
    with _linked(layout, fd, path) as temporary:
        if temporary is None:
            raise SourceChanged(f"{path} was moved or replaced while it was read; try again")
        watch = Watch.of(before, str(path.absolute()))
        new = publish(layout, temporary, digest, watch=watch)
    return Adoption(digest, before.st_size, How.LINK if new else How.PRESENT)


@contextmanager
def _linked(layout: Layout, fd: int, path: Path) -> Iterator[Path | None]:
    """A temporary second name for the open file, None where it can't have one."""
    temporary = layout.partial / f"link-{secrets.token_hex(12)}"
    try:
        os.link(path, temporary, follow_symlinks=False)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        if error.errno not in _CANT_LINK:
            raise disk_error(error, f"linking {path}") from error
        yield None
        return
    try:
        yield temporary if os.path.samestat(temporary.lstat(), os.fstat(fd)) else None
    finally:
        temporary.unlink(missing_ok=True)


def _copy(layout: Layout, fd: int, on_progress: Progress | None) -> Adoption:
    size_bytes = os.fstat(fd).st_size
    with open_writer(layout, size_bytes=size_bytes) as writer:
        for data in chunks(fd, on_progress):
            writer.write(data)
        digest, new = writer.commit_new()
    return Adoption(digest, size_bytes, How.COPY if new else How.PRESENT)


def _refuse_changed(path: Path, before: os.stat_result, after: os.stat_result) -> None:
    if Watch.of(before, "").difference(after) is not None:
        raise SourceChanged(f"{path} changed while it was read; try again")
