"""Blobs: immutable files, named by the digest of their bytes."""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .adopt import Adoption, adopt
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


class BlobCorrupt(QmError):
    """A blob's bytes are no longer those that its name promises."""

    code = "blob_corrupt"


class BlobKind(StrEnum):
    """Whose file a blob is."""

    OWN = "own"
    ADOPTED = "adopted"


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One stored blob."""

    digest: str
    size_bytes: int
    kind: BlobKind


@dataclass(frozen=True, slots=True)
class Blobs:
    """The blobs of one store."""

    layout: Layout

    def has(self, digest: str) -> bool:
        """Whether the blob can be used: present, and unchanged if it was adopted."""
        try:
            self.path(digest)
        except (BlobMissing, BlobChanged):
            return False
        return True

    def path(self, digest: str) -> Path:
        """The blob's file; raises BlobMissing, or BlobChanged for an adopted file."""
        check_unchanged(self.layout, digest, self._status(digest))
        return self.layout.blob(digest)

    def size(self, digest: str) -> int:
        """The blob's size in bytes; raises BlobMissing."""
        return self._status(digest).st_size

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

    def adopt(self, path: Path, *, on_progress: Progress | None = None) -> Adoption:
        """Takes a user's GGUF file in, without a copy where the file system allows it."""
        return adopt(self.layout, path, on_progress=on_progress)

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

    def _status(self, digest: str) -> os.stat_result:
        try:
            status = self.layout.blob(digest).lstat()
        except FileNotFoundError:
            raise _missing(digest) from None
        if not stat.S_ISREG(status.st_mode):
            raise BlobCorrupt(f"blob {digest} is not a regular file")
        return status

    def _info(self, digest: str) -> BlobInfo | None:
        """None for a blob that was collected a moment ago."""
        try:
            status = self._status(digest)
        except BlobMissing:
            return None
        watch = read_watch(self.layout, digest)
        adopted = watch is not None and watch.is_about(status)
        return BlobInfo(digest, status.st_size, BlobKind.ADOPTED if adopted else BlobKind.OWN)


def _digest_of(path: Path, on_progress: Progress | None) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return hash_file(fd, on_progress)
    finally:
        os.close(fd)


def _missing(digest: str) -> BlobMissing:
    return BlobMissing(f"blob {digest} not found")
