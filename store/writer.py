"""Writing a new blob: bytes go to a locked temporary file, the digest is computed on the way."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .behind import FlushBehind, HashBehind
from .durable import clone, disk_error, sync_file, write_all
from .errors import InvalidRequest, QmError
from .hashing import Progress, chunks, digest_text
from .layout import Layout, parse_digest
from .locks import publishing, try_lock
from .publish import publish

_BLOB_MODE = 0o444


class DigestMismatch(InvalidRequest):
    """The bytes are not what their digest or size says; nothing was kept."""

    code = "digest_mismatch"


class BlobWriter:
    """Takes a blob's bytes; nothing is visible before `commit`."""

    def __init__(
        self, layout: Layout, path: Path, fd: int, digest: str | None, size_bytes: int | None
    ) -> None:
        self._layout = layout
        self._path = path
        self._fd = fd
        self._expected_digest = digest
        self._expected_bytes = size_bytes
        self._needed_bytes = size_bytes or 0  # as far as is known, for who has no room
        self._hasher = hashlib.sha256()
        self._behind: HashBehind | None = None
        self.written_bytes = 0

    @property
    def path(self) -> Path:
        """The unfinished file, to read back before it is committed."""
        return self._path

    def write(self, data: bytes | memoryview) -> None:
        """Appends `data`; refuses more bytes than were announced."""
        self._count(len(data))
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise self._disk_error(error) from error
        if self._behind is None:
            self._hasher.update(data)
        else:
            self._behind.wrote(self.written_bytes)

    def _disk_error(self, error: OSError) -> QmError:
        needed_bytes = max(self._needed_bytes, self.written_bytes)
        return disk_error(error, "writing a blob", needed_bytes)

    def expect(self, size_bytes: int) -> None:
        """Tells about how large it will be; takes other sizes, too."""
        self._needed_bytes = size_bytes

    def reserve(self, size_bytes: int) -> None:
        """Gives the file the size that it will have, and the room for it. Raises StoreFull."""
        self.expect(size_bytes)
        _reserve(self._fd, size_bytes)

    @contextmanager
    def hashing_behind(self) -> Iterator[None]:
        """Within it threads of their own hash and flush what is written: for gigabytes."""
        assert not self.written_bytes, "the file is hashed from its start"
        with self._hashing() as behind:
            self._behind = behind
            try:
                with self._flushing():
                    yield
            finally:
                self._behind = None

    @contextmanager
    def _hashing(self) -> Iterator[HashBehind]:
        behind = HashBehind(self._fd, self._hasher)
        try:
            yield behind
        except BaseException:
            behind.give_up()
            raise
        try:
            behind.finish()
        except OSError as error:
            raise disk_error(error, "reading a blob back") from error

    @contextmanager
    def _flushing(self) -> Iterator[None]:
        flush = FlushBehind(self._fd)
        try:
            yield
        finally:
            try:
                flush.finish()
            except OSError as error:
                raise self._disk_error(error) from error

    def clone(self, source_fd: int, on_progress: Progress | None = None) -> bool:
        """Shares the bytes of another file, where the file system can; False if it can't."""
        if self.written_bytes or not clone(self._fd, source_fd):
            return False
        for data in chunks(self._fd, on_progress):
            self._count(len(data))
            self._hasher.update(data)
        return True

    @contextmanager
    def filled_by(self, tool: Callable[[Path], object]) -> Iterator[None]:
        """Lets `tool` write the whole file, for tools that take a path; within it that is read."""
        assert not self.written_bytes, "the file is the tool's alone"
        with self._flushing():
            tool(self._path)
        with self._hashing() as behind:
            self._count(os.fstat(self._fd).st_size)
            behind.wrote(self.written_bytes)
            yield

    def commit(self) -> str:
        """Makes the blob durable and visible and returns its digest."""
        digest, _ = self.commit_new()
        return digest

    def commit_new(self) -> tuple[str, bool]:
        """As `commit`, and whether the store did not have the blob before."""
        digest = digest_text(self._hasher.hexdigest())
        self._check(digest)
        try:
            os.fchmod(self._fd, _BLOB_MODE)
            sync_file(self._fd)
        except OSError as error:
            raise disk_error(error, "writing a blob", self.written_bytes) from error
        return digest, publish(self._layout, self._path, digest)

    def _count(self, added_bytes: int) -> None:
        self.written_bytes += added_bytes
        if self._expected_bytes is not None and self.written_bytes > self._expected_bytes:
            raise DigestMismatch(f"more than the announced {self._expected_bytes} bytes came")

    def _check(self, digest: str) -> None:
        if self._expected_bytes is not None and self.written_bytes != self._expected_bytes:
            raise DigestMismatch(
                f"{self.written_bytes} bytes came, {self._expected_bytes} were announced"
            )
        refuse_other(digest, self._expected_digest)


def refuse_other(digest: str, expected: str | None) -> None:
    """Raises DigestMismatch unless the bytes' digest is the expected one, if one is."""
    if expected is not None and digest != expected:
        raise DigestMismatch(f"digest mismatch: expected {expected}, the bytes are {digest}")


@contextmanager
def open_writer(
    layout: Layout, *, digest: str | None = None, size_bytes: int | None = None
) -> Iterator[BlobWriter]:
    """A writer whose temporary file is gone afterwards, whether it was committed or not."""
    if digest is not None:
        parse_digest(digest)
    path = layout.partial / f"write-{secrets.token_hex(12)}"
    with publishing(layout):  # so that nobody sees the file before its lock
        fd = _create(path)
    try:
        if size_bytes:
            _reserve(fd, size_bytes)
        yield BlobWriter(layout, path, fd, digest, size_bytes)
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _create(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise disk_error(error, "starting a blob") from error
    assert try_lock(fd), "only a collector locks others' files, and it is kept out"
    return fd


def _reserve(fd: int, size_bytes: int) -> None:
    """Finds out before the first byte whether the disk has room."""
    if not hasattr(os, "posix_fallocate"):  # macOS: the writes themselves will tell
        return
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except OSError as error:
        raise disk_error(error, "reserving room for a blob", size_bytes) from error
