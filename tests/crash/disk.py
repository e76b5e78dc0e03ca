"""A disk as it may be after a power cut: a model that follows the calls which change files.

Worst cases that POSIX allows: bytes that were not fsynced are lost, and directory entries that were
not fsynced are either all lost or all kept.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from qm.store.image import Manifest
from qm.store.layout import Layout

CALLS = (
    *("open", "write", "pwrite", "fsync", "link", "rename", "unlink", "mkdir", "rmdir"),
    *("ftruncate", "posix_fallocate"),
)


@dataclass(slots=True)
class Inode:
    """A file's bytes as programs see them, and as the disk has them."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


Entries = dict[Path, Inode]


class Disk:
    """Follows the calls and keeps what may be there after a cut behind each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.aftermaths: list[dict[Path, bytes]] = []
        self._visible: Entries = {}
        for path in root.rglob("*"):
            data = path.read_bytes() if path.is_file() else b""
            self._visible[path] = Inode(bytearray(data), data)
        self._durable = dict(self._visible)
        self._open: dict[int, Path] = {}
        self._at: dict[int, int | None] = {}  # None: always at the end

    def open(self, fd: int, name: Any, flags: int, *_mode: Any, dir_fd: int | None = None) -> None:
        path = self._open[fd] = self._path(name, dir_fd)
        self._at[fd] = None if flags & os.O_APPEND else 0
        if path.is_relative_to(self.root):
            self._visible.setdefault(path, Inode())
        elif path.is_file():  # a file of the user: its bytes count as unsynced
            self._visible.setdefault(path, Inode(bytearray(path.read_bytes())))

    def write(self, written: int, fd: int, data: bytes) -> None:
        at = self._at.get(fd)
        if at is not None:
            self._at[fd] = at + written
        self.pwrite(written, fd, data, len(self._inode(fd).data) if at is None else at)

    def pwrite(self, written: int, fd: int, data: bytes, offset: int) -> None:
        inode = self._inode(fd)
        inode.data.extend(bytes(max(0, offset - len(inode.data))))
        inode.data[offset : offset + written] = bytes(data[:written])

    def ftruncate(self, _none: None, fd: int, length: int) -> None:
        inode = self._inode(fd)
        inode.data.extend(bytes(max(0, length - len(inode.data))))
        del inode.data[length:]

    def posix_fallocate(self, _none: None, fd: int, offset: int, length: int) -> None:
        inode = self._inode(fd)
        inode.data.extend(bytes(max(0, offset + length - len(inode.data))))

    def fsync(self, _none: None, fd: int) -> None:
        path = self._open[fd]
        if path.is_dir():
            others = {p: f for p, f in self._durable.items() if p.parent != path}
            self._durable = others | {p: f for p, f in self._visible.items() if p.parent == path}
        else:
            inode = self._inode(fd)
            inode.synced = bytes(inode.data)

    def link(self, _none: None, source: Any, target: Any, **_options: Any) -> None:
        self._visible[Path(target)] = self._visible[Path(source)]

    def rename(self, _none: None, source: Any, target: Any) -> None:
        self._visible[Path(target)] = self._visible.pop(Path(source))

    def unlink(self, _none: None, path: Any, *, dir_fd: int | None = None) -> None:
        self._visible.pop(self._path(path, dir_fd), None)

    def mkdir(self, _none: None, path: Any, *_mode: Any) -> None:
        self._visible[Path(path)] = Inode()

    rmdir = unlink

    def cut(self) -> None:
        """Both worst cases of a cut at this moment."""
        self.aftermaths += [self.pessimistic(), self._reachable(self._visible)]

    def seen(self) -> dict[Path, Inode]:
        """Every file as programs see it, and what of it is on the disk."""
        return dict(self._visible)

    def _path(self, name: Any, dir_fd: int | None) -> Path:
        return Path(name) if dir_fd is None else self._open[dir_fd] / name

    def _inode(self, fd: int) -> Inode:
        """Of an open file that is no longer there: nobody will see it again."""
        return self._visible.get(self._open.get(fd, Path()), Inode())

    def pessimistic(self) -> dict[Path, bytes]:
        """Only what was fsynced, bytes and entries."""
        return self._reachable(self._durable)

    def _reachable(self, entries: Entries) -> dict[Path, bytes]:
        """The files whose directories are there too."""
        return {
            path: inode.synced
            for path, inode in entries.items()
            if all(
                parent in entries or parent in (self.root, *self.root.parents)
                for parent in path.parents
            )
        }


@contextmanager
def recorded(
    root: Path,
    *,
    ignoring: Callable[[Path], bool] | None = None,
    at_each_cut: Callable[[Disk], None] = Disk.cut,
) -> Iterator[Disk]:
    """Follows all changes below `root`, of any thread; the disk takes no notice of the fsyncs to be
    ignored.
    """
    disk, lock = Disk(root), threading.RLock()

    def follow(name: str, call: Callable[..., Any]) -> Callable[..., Any]:  # Any: nine signatures
        def followed(*args: Any, **options: Any) -> Any:
            with lock:
                result = call(*args, **options)
                if name == "fsync" and ignoring is not None and ignoring(disk._open[args[0]]):
                    return result
                getattr(disk, name)(result, *args, **options)
                at_each_cut(disk)
                return result

        return followed

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, follow(name, getattr(os, name)))
        yield disk


def violation(layout: Layout, files: dict[Path, bytes]) -> str | None:
    """What promise is broken after a cut, None if all hold."""
    for path, data in files.items():
        if path.parent == layout.blobs and f"sha256-{sha256(data).hexdigest()}" != path.name:
            return f"promise 1: {path.name} has other bytes"
        if path.is_relative_to(layout.manifests) and len(path.parts) == len(layout.root.parts) + 5:
            if not data:
                return f"promise 3: the manifest {path} is half written"
            if missing := [d for d in Manifest.parse(data).blobs() if layout.blob(d) not in files]:
                return f"promise 2: {missing} are not durable"
    return None
