"""Blobs: immutable files, named by the digest of their bytes."""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .adopt import Adoption, Fallback, adopt
from .claims import claim
from .errors import NotFound, QmError
from .hashing import Progress, hash_file
from .layout import Layout, digest_of_file_name
from .locks import publishing
from .watch import BlobChanged, check_unchanged, read_watch
from .writer import BlobWriter, open_writer

__all__ = ["BlobChanged", "BlobCorrupt", "BlobInfo", "BlobKind", "BlobMissing", "Blobs"]


class BlobMissing(NotFound):
    """The store does not have the blob."""

    code = "blob_missing"


class BlobUnreachable(BlobMissing):
    """The file that the blob is kept in, outside of the store, can't be reached now."""

    code = "blob_unreachable"


class BlobCorrupt(QmError):
    """A blob's bytes are no longer those that its name promises."""

    code = "blob_corrupt"


class BlobKind(StrEnum):
    """Whose file a blob is."""

    OWN = "own"
    ADOPTED = "adopted"  # a second name of a user's file
    IN_PLACE = "in place"  # a user's file, where it is


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One stored blob."""

    digest: str
    size_bytes: int
    kind: BlobKind
    source: str | None = None  # the user's file that it shares its bytes with


@dataclass(frozen=True, slots=True)
class Blobs:
    """The blobs of one store; what it lacks is read from `others`, which are never written."""

    layout: Layout
    others: tuple[Layout, ...] = ()

    def has(self, digest: str) -> bool:
        """Whether the blob can be used: present, and unchanged if it was adopted."""
        try:
            self.path(digest)
        except (BlobMissing, BlobChanged):
            return False
        return True

    def path(self, digest: str) -> Path:
        """The blob's file; raises BlobMissing, or BlobChanged for an adopted file."""
        path, status = self._found(digest)
        check_unchanged(self.layout, digest, status, in_place=path.is_symlink())
        return path

    def size(self, digest: str) -> int:
        """The blob's size in bytes; raises BlobMissing."""
        return self._found(digest)[1].st_size

    def list(self) -> list[BlobInfo]:
        """Every blob, in the order of digests."""
        names = sorted(path.name for path in self.layout.blobs.iterdir())
        digests = (digest for name in names if (digest := digest_of_file_name(name)) is not None)
        return [info for digest in digests if (info := self._info(digest)) is not None]

    def keep(self, digest: str) -> bool:
        """Whether the blob is here; if so it stays until its manifest comes (or an hour passes)."""
        with publishing(self.layout):
            if not self.has(digest):
                return False
            claim(self.layout, digest)
        return True

    def writer(
        self, *, digest: str | None = None, size_bytes: int | None = None
    ) -> AbstractContextManager[BlobWriter]:
        """A writer for a new blob; a wrong digest or size is refused and nothing kept."""
        return open_writer(self.layout, digest=digest, size_bytes=size_bytes)

    def put(self, data: bytes) -> str:
        """Stores `data` and returns its digest."""
        with self.writer(size_bytes=len(data)) as writer:
            writer.write(data)
            return writer.commit()

    def adopt(
        self,
        path: Path,
        *,
        digest: str | None = None,
        fallback: Fallback = Fallback.COPY,
        on_progress: Progress | None = None,
    ) -> Adoption:
        """Takes a user's file in, without a copy where the file system allows it.

        It must be a GGUF, or have the `digest` that the caller expects.
        """
        return adopt(self.layout, path, digest=digest, fallback=fallback, on_progress=on_progress)

    def verify(self, digest: str, on_progress: Progress | None = None) -> None:
        """Reads the whole blob; raises BlobCorrupt, BlobChanged or BlobMissing."""
        path = self.path(digest)
        try:
            found = _digest_of(path, on_progress)
        except FileNotFoundError:
            raise _missing(digest) from None
        except OSError as error:
            raise BlobCorrupt(f"blob {digest} can't be read: {error.strerror}") from error
        if found != digest:
            raise BlobCorrupt(f"blob {digest} is damaged: its bytes hash to {found}")

    def _found(self, digest: str) -> tuple[Path, os.stat_result]:
        """The blob's file, of this store or of another one."""
        try:
            return self.layout.blob(digest), self._status(digest)
        except BlobMissing:
            for layout in self.others:
                try:
                    status = layout.blob(digest).lstat()
                except OSError:  # not there, or its disk is not
                    continue
                if stat.S_ISREG(status.st_mode):
                    return layout.blob(digest), status
            raise

    def _status(self, digest: str) -> os.stat_result:
        try:
            status = self.layout.blob(digest).lstat()
        except FileNotFoundError:
            raise _missing(digest) from None
        if stat.S_ISLNK(status.st_mode) and read_watch(self.layout, digest) is not None:
            status = self._status_in_place(digest)
        if not stat.S_ISREG(status.st_mode):
            raise BlobCorrupt(f"blob {digest} is not a regular file")
        return status

    def _status_in_place(self, digest: str) -> os.stat_result:
        """Of the user's file; its disk may be unplugged, or the file gone."""
        path = self.layout.blob(digest)
        try:
            return path.stat()
        except OSError as error:
            raise BlobUnreachable(
                f"blob {digest} is the file {path.readlink()}, which can't be reached "
                f"({error.strerror}); plug its disk in, or import the file again"
            ) from None

    def _info(self, digest: str) -> BlobInfo | None:
        """None for a blob that was collected a moment ago."""
        watch = read_watch(self.layout, digest)
        if watch is not None and self.layout.blob(digest).is_symlink():
            return BlobInfo(digest, watch.size_bytes, BlobKind.IN_PLACE, watch.source)
        try:
            status = self._status(digest)
        except BlobMissing:
            return None
        if watch is not None and watch.is_about(status):
            return BlobInfo(digest, status.st_size, BlobKind.ADOPTED, watch.source)
        return BlobInfo(digest, status.st_size, BlobKind.OWN)


def _digest_of(path: Path, on_progress: Progress | None) -> str:
    fd = os.open(path, os.O_RDONLY)  # in place it is a link to the user's file
    try:
        return hash_file(fd, on_progress)
    finally:
        os.close(fd)


def _missing(digest: str) -> BlobMissing:
    return BlobMissing(f"blob {digest} not found")
