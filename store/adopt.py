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
from .filesystem import network_file_system
from .hashing import Progress, chunks, hash_file
from .layout import Layout
from .locks import publishing, try_share
from .publish import publish, publish_in_place
from .watch import Watch
from .writer import open_writer, refuse_other

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


class NeedsCopy(Conflict):
    """The file can neither be shared nor watched where it is."""

    code = "needs_copy"


class Fallback(StrEnum):
    """What to do with a file that can't be shared by link."""

    COPY = "copy"
    IN_PLACE = "in place"


class How(StrEnum):
    """The way a file's bytes came into the store."""

    LINK = "link"
    REFLINK = "reflink"
    IN_PLACE = "in place"
    COPY = "copy"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Adoption:
    """An adopted file's blob."""

    digest: str
    size_bytes: int
    how: How


def adopt(
    layout: Layout,
    path: Path,
    *,
    digest: str | None = None,
    fallback: Fallback = Fallback.COPY,
    on_progress: Progress | None = None,
) -> Adoption:
    """The file at `path` as a blob: a reflink, else a watched hard link, else the `fallback`.

    With a `digest` any file will do whose bytes have it. Raises NotAGguf, SourceChanged,
    DigestMismatch, NeedsCopy.
    """
    with _open_source(path, any_kind=digest is not None) as fd:
        source = _Source(layout, fd, path, digest, on_progress)
        before = os.fstat(fd)
        adoption = source.reflink() or source.link() or source.fall_back(fallback)
        _refuse_changed(path, before, os.fstat(fd))
        return adoption


@contextmanager
def _open_source(path: Path, *, any_kind: bool) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _not_a_gguf(path) from error
    try:
        if not _looks_like_weights(fd, any_kind=any_kind):
            raise _not_a_gguf(path)
        yield fd
    finally:
        os.close(fd)


def _looks_like_weights(fd: int, *, any_kind: bool) -> bool:
    """GGUF by its magic; safetensors by a sensible header length before a JSON object."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return False
    if any_kind:
        return True
    try:
        start = os.pread(fd, 9, 0)
    except OSError:  # files of /proc fail in ways of their own
        return False
    if start.startswith(_MAGIC):
        return True
    header_bytes = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and header_bytes <= min(_MAX_HEADER_BYTES, status.st_size - 8)


def _not_a_gguf(path: Path) -> NotAGguf:
    """The same words whatever is wrong, so that nobody learns which files there are."""
    return NotAGguf(
        f"no readable GGUF or safetensors file at {str(path)!r}: it is missing, cut short, or of "
        "another kind"
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """A user's open file, and the ways to take it in."""

    layout: Layout
    fd: int
    path: Path
    expected: str | None
    on_progress: Progress | None

    def reflink(self) -> Adoption | None:
        with open_writer(self.layout, digest=self.expected) as writer:
            if not writer.clone(self.fd, self.on_progress):
                return None
            digest, new = writer.commit_new()
        return Adoption(digest, writer.written_bytes, How.REFLINK if new else How.PRESENT)

    def link(self) -> Adoption | None:
        with _linked(self.layout, self.fd, self.path) as probe:
            if probe is None:  # found out before the file is read
                return None
        digest, before = self._hashed()
        with _linked(self.layout, self.fd, self.path) as temporary:
            if temporary is None:
                raise SourceChanged(f"{self.path} was moved or replaced while it was read")
            watch = Watch.of(before, str(self.path.absolute()))
            new = publish(self.layout, temporary, digest, watch=watch)
        return Adoption(digest, before.st_size, How.LINK if new else How.PRESENT)

    def fall_back(self, fallback: Fallback) -> Adoption:
        if fallback is Fallback.COPY:
            return self._copy()
        kind = network_file_system(self.path)
        if kind is not None:  # its times and inodes tell too little to watch a file by them
            raise NeedsCopy(f"{self.path} is on a network disk ({kind}) and must be copied")
        digest, before = self._hashed()
        where = self.path.absolute()
        watch = Watch.of(before, str(where))
        new = publish_in_place(self.layout, where, digest, watch)
        return Adoption(digest, before.st_size, How.IN_PLACE if new else How.PRESENT)

    def _hashed(self) -> tuple[str, os.stat_result]:
        """The digest of the bytes that are on the disk, and the file's status at that."""
        before = os.fstat(self.fd)
        try:
            digest = hash_file(self.fd, self.on_progress)
            refuse_other(digest, self.expected)
            sync_file(self.fd)
        except OSError as error:
            raise disk_error(error, f"reading {self.path}") from error
        _refuse_changed(self.path, before, os.fstat(self.fd))
        return digest, before

    def _copy(self) -> Adoption:
        size_bytes = os.fstat(self.fd).st_size
        with open_writer(self.layout, digest=self.expected, size_bytes=size_bytes) as writer:
            for data in chunks(self.fd, self.on_progress):
                writer.write(data)
            digest, new = writer.commit_new()
        return Adoption(digest, size_bytes, How.COPY if new else How.PRESENT)


@contextmanager
def _linked(layout: Layout, fd: int, path: Path) -> Iterator[Path | None]:
    """A temporary second name for the open file, None where it can't have one."""
    temporary = layout.partial / f"link-{secrets.token_hex(12)}"
    try:
        linked = _link(layout, fd, path, temporary)
        yield temporary if linked and os.path.samestat(temporary.lstat(), os.fstat(fd)) else None
    finally:
        temporary.unlink(missing_ok=True)


def _link(layout: Layout, fd: int, path: Path, temporary: Path) -> bool:
    """The lock tells collections that the name is in use; a file that another program wants alone
    is not shared.
    """
    with publishing(layout):
        try:
            os.link(path, temporary, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _CANT_LINK:
                raise disk_error(error, f"linking {path}") from error
            return False
        return try_share(fd)


def _refuse_changed(path: Path, before: os.stat_result, after: os.stat_result) -> None:
    if Watch.of(before, "").difference(after) is not None:
        raise SourceChanged(f"{path} changed while it was read; try again")
