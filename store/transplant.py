"""Bringing a store's files to another directory: by link, by reflink, else copied and read back."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .blobs import BlobCorrupt
from .durable import clone, disk_error, sync_directory, sync_file, write_all
from .hashing import chunks, hash_file
from .layout import Layout, digest_of_file_name

_MARGIN_BYTES = 64 << 20
_CANT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
_TEMPORARY = "transplant-"
_FRESH = os.O_RDWR | os.O_CREAT | os.O_EXCL


@dataclass(slots=True)
class Transplant:
    """Does nothing twice: what is at the target already and unchanged stays."""

    source: Layout
    target: Layout
    on_progress: Callable[[int, int], None] | None = None
    _links: bool = True  # until linking fails: then it is another file system
    _done_bytes: int = 0
    _total_bytes: int = 0

    def everything(self, *, exactly: bool = False) -> None:
        """Blobs first. `exactly`: what the source has not goes; hold its lock then.

        Raises StoreFull, StoreFailed, BlobCorrupt.
        """
        with _told():
            missing = list(self._missing_blobs())
            self._check_room(missing)
            self._total_bytes = _size_bytes(missing)
            for path in missing:
                self._blob(path)
            sync_directory(self.target.blobs)
            for directory in self._others():
                self._tree(directory, exactly=exactly)
            if self.source.alternates.exists():
                self._file(self.source.alternates, self.target.alternates)
            if exactly:
                self._prune(self.source.blobs)
            sync_directory(self.target.root)

    def conversations(self) -> None:
        """What came to the source's snapshots since."""
        with _told():
            if self.source.kv.is_dir():
                self._tree(self.source.kv, exactly=False)

    def _others(self) -> Iterator[Path]:
        """Everything but blobs and what belongs to living processes; the names come last."""
        skipped = (self.source.blobs, self.source.leases, self.source.trash, self.source.manifests)
        yield from (path for path in self.source.directories() if path not in skipped)
        yield self.source.manifests

    def _counterpart(self, path: Path) -> Path:
        return self.target.root / path.relative_to(self.source.root)

    # Blobs ------------------------------------------------------------------------------------

    def _missing_blobs(self) -> Iterator[Path]:
        for path in sorted(self.source.blobs.iterdir()):
            if digest_of_file_name(path.name) is None:
                continue
            with suppress(FileNotFoundError):  # collected a moment ago
                if not _is_same(path.lstat(), self._counterpart(path)):
                    yield path

    def _check_room(self, missing: list[Path]) -> None:
        if self.source.blobs.stat().st_dev == self.target.blobs.stat().st_dev:
            return
        needed = _size_bytes(missing)
        if needed and shutil.disk_usage(self.target.root).free < needed + _MARGIN_BYTES:
            raise disk_error(OSError(errno.ENOSPC, ""), "moving the store", needed)

    def _blob(self, path: Path) -> None:
        """One that was collected a moment ago is left out."""
        target = self._counterpart(path)
        with suppress(FileNotFoundError):
            size_bytes = path.lstat().st_size
            target.unlink(missing_ok=True)
            if path.is_symlink():
                target.symlink_to(path.readlink())
            elif not self._linked(path, target):
                self._copy_blob(path, target)
            self._done_bytes += size_bytes
            self._tell(0)

    def _linked(self, path: Path, target: Path) -> bool:
        if not self._links:
            return False
        try:
            os.link(path, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _CANT_LINK:
                raise
            self._links = error.errno != errno.EXDEV
            return False
        return True

    def _copy_blob(self, path: Path, target: Path) -> None:
        """Published at the target only when what is on the disk there has the right digest."""
        digest, temporary = digest_of_file_name(path.name), self._temporary(path)
        try:
            with _opened(path, os.O_RDONLY) as source, _opened(temporary, _FRESH) as fd:
                self._fill(fd, source)
                _dress(fd, os.fstat(source))
                sync_file(fd)
                _forget_pages(fd)
                if hash_file(fd) != digest:
                    raise BlobCorrupt(
                        f"blob {digest} is not what it was and can't be moved; mend it (qm verify "
                        "--repair) or remove its model"
                    )
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _fill(self, fd: int, source: int) -> None:
        if clone(fd, source):
            return
        done = 0
        for data in chunks(source):
            write_all(fd, data)
            done += len(data)
            self._tell(done)

    def _tell(self, of_this_bytes: int) -> None:
        if self.on_progress is not None:
            self.on_progress(self._done_bytes + of_this_bytes, self._total_bytes)

    # Everything else --------------------------------------------------------------------------

    def _tree(self, directory: Path, *, exactly: bool) -> None:
        there = self._counterpart(directory)
        with suppress(FileNotFoundError):
            there.mkdir(mode=stat.S_IMODE(directory.stat().st_mode), exist_ok=True)
            for path in sorted(directory.iterdir()):
                if path.is_dir() and not path.is_symlink():
                    self._tree(path, exactly=exactly)
                else:
                    self._file(path, self._counterpart(path))
        if exactly:
            self._prune(directory)
        sync_directory(there)

    def _file(self, path: Path, target: Path) -> None:
        """One that vanishes meanwhile was not needed any more."""
        with suppress(FileNotFoundError):
            status = path.lstat()
            if _is_same(status, target):
                return
            temporary = self._temporary(path)
            try:
                if stat.S_ISLNK(status.st_mode):
                    temporary.symlink_to(path.readlink())
                elif not stat.S_ISREG(status.st_mode):
                    return
                elif not self._linked(path, temporary):
                    _copy(path, temporary, status)
                temporary.rename(target)
            finally:
                temporary.unlink(missing_ok=True)

    def _prune(self, directory: Path) -> None:
        """Takes out of the target what the source has no more."""
        for path in self._counterpart(directory).iterdir():
            if os.path.lexists(directory / path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _temporary(self, path: Path) -> Path:
        """A free name; what a killed move left under it goes."""
        temporary = self.target.trash / f"{_TEMPORARY}{path.name}"
        temporary.unlink(missing_ok=True)
        return temporary


def _size_bytes(paths: list[Path]) -> int:
    return sum(path.lstat().st_size for path in paths if os.path.lexists(path))


def _is_same(status: os.stat_result, target: Path) -> bool:
    """The same file by another name, or a copy of its present state."""
    try:
        there = target.lstat()
    except FileNotFoundError:
        return False
    if os.path.samestat(status, there):
        return True
    return (status.st_size, status.st_mtime_ns, stat.S_IFMT(status.st_mode)) == (
        *(there.st_size, there.st_mtime_ns),
        stat.S_IFMT(there.st_mode),
    )


def _copy(path: Path, target: Path, status: os.stat_result) -> None:
    with _opened(path, os.O_RDONLY) as source, _opened(target, _FRESH) as fd:
        for data in chunks(source):
            write_all(fd, data)
        _dress(fd, status)
        sync_file(fd)


def _dress(fd: int, status: os.stat_result) -> None:
    """Mode and time of the original: ages go by it, and so does whether it is the same."""
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _forget_pages(fd: int) -> None:
    """So that what is read back comes from the disk, as far as the system obeys."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, "moving the store") from error
