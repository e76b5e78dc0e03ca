"""Follows the calls of this process that change files, of any thread, into a model of the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.crash.disk import Aftermath, Disk, Inode

CALLS = (
    *("open", "write", "pwrite", "fsync", "link", "rename", "unlink", "mkdir", "rmdir"),
    *("ftruncate", "posix_fallocate"),
)


@dataclass(slots=True)
class _Open:
    path: Path
    inode: Inode
    at: int | None  # None: always at the end


@dataclass(slots=True)
class Recording:
    """The disk that the calls leave behind; `aftermaths` of a cut behind each, if they are kept."""

    disk: Disk
    aftermaths: list[Aftermath] = field(default_factory=list)
    _open: dict[int, _Open] = field(default_factory=dict)

    def path_of(self, fd: int) -> Path:
        return self._open[fd].path

    def open(self, fd: int, name: Any, flags: int, *_mode: Any, dir_fd: int | None = None) -> None:
        path = self._path(name, dir_fd)
        directory = flags & os.O_DIRECTORY or path.is_dir()
        inode = Inode(is_file=False) if directory else self.disk.file(path)
        self._open[fd] = _Open(path, inode, None if flags & os.O_APPEND else 0)

    def write(self, written: int, fd: int, data: bytes) -> None:
        file = self._open.get(fd)
        if file is None:  # a pipe
            return
        offset = len(file.inode.data) if file.at is None else file.at
        if file.at is not None:
            file.at += written
        file.inode.write(bytes(data[:written]), offset)

    def pwrite(self, written: int, fd: int, data: bytes, offset: int) -> None:
        self._open[fd].inode.write(bytes(data[:written]), offset)

    def ftruncate(self, _none: None, fd: int, length: int) -> None:
        self._open[fd].inode.truncate(length)

    def posix_fallocate(self, _none: None, fd: int, offset: int, length: int) -> None:
        self._open[fd].inode.extend(offset + length)

    def fsync(self, _none: None, fd: int) -> None:
        file = self._open[fd]
        if file.inode.is_file:
            self.disk.sync_file(file.inode)
        else:
            self.disk.sync_directory(file.path)

    def link(self, _none: None, source: Any, target: Any, **_options: Any) -> None:
        self.disk.link(Path(source), Path(target))

    def rename(self, _none: None, source: Any, target: Any) -> None:
        self.disk.rename(Path(source), Path(target))

    def unlink(self, _none: None, path: Any, *, dir_fd: int | None = None) -> None:
        self.disk.remove(self._path(path, dir_fd))

    rmdir = unlink

    def mkdir(self, _none: None, path: Any, *_mode: Any) -> None:
        self.disk.make_directory(Path(path))

    def _path(self, name: Any, dir_fd: int | None) -> Path:
        return Path(name) if dir_fd is None else self._open[dir_fd].path / name


def keep_aftermaths(recording: Recording) -> None:
    recording.aftermaths += recording.disk.aftermaths()


@contextmanager
def recorded(
    root: Path,
    *,
    ignoring: Callable[[Path], bool] | None = None,
    at_each_cut: Callable[[Recording], None] = keep_aftermaths,
) -> Iterator[Recording]:
    """Follows all changes below `root`; the disk takes no notice of the fsyncs to be ignored."""
    recording, lock = Recording(Disk(root)), threading.RLock()

    def follow(name: str, call: Callable[..., Any]) -> Callable[..., Any]:  # Any: nine signatures
        def followed(*args: Any, **options: Any) -> Any:
            with lock:
                result = call(*args, **options)
                if name == "fsync" and ignoring and ignoring(recording.path_of(args[0])):
                    return result
                getattr(recording, name)(result, *args, **options)
                at_each_cut(recording)
                return result

        return followed

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, follow(name, getattr(os, name)))
        yield recording
