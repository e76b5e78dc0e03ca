"""A disk as it may be after a power cut: a model of what was written, and of what was synced.

Worst cases that POSIX allows: bytes that were not fsynced are lost; the directory entries that were
not fsynced are all lost, all kept, or kept in one directory and lost in the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from qm.store.image import Manifest
from qm.store.layout import Layout


@dataclass(slots=True)
class Inode:
    """A file's bytes as programs see them, and as the disk has them."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    is_file: bool = True

    def write(self, data: bytes, offset: int) -> None:
        self.extend(offset)
        self.data[offset : offset + len(data)] = data

    def extend(self, length: int) -> None:
        self.data.extend(bytes(max(0, length - len(self.data))))

    def truncate(self, length: int) -> None:
        self.extend(length)
        del self.data[length:]


Entries: TypeAlias = dict[Path, Inode]
Aftermath: TypeAlias = dict[Path, bytes]
"""The files that are there after a cut."""


class Disk:
    """What lies below `root`, and what of it would survive; at first all that is there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.visible: Entries = {}
        for path in root.rglob("*"):
            data = path.read_bytes() if path.is_file() else b""
            self.visible[path] = Inode(bytearray(data), data, path.is_file())
        self._durable = dict(self.visible)
        self.version = 0  # changes with what a cut may leave

    def copy(self) -> Disk:
        """Another one like it, to change."""
        return deepcopy(self)

    def file(self, path: Path) -> Inode:
        """The file of that name, made if there is none.

        The bytes of a user's file count as unsynced; of one that is gone, nobody sees any.
        """
        inode = self.visible.get(path)
        if inode is None:
            inode = Inode()
            if path.is_relative_to(self.root):
                self.visible[path] = inode
            elif path.is_file():
                inode.data = bytearray(path.read_bytes())
                self.visible[path] = inode
            self.version += 1
        return inode

    def entries(self, directory: Path) -> Entries:
        return {path: inode for path, inode in self.visible.items() if path.parent == directory}

    def sync_file(self, inode: Inode, data: bytes | None = None) -> None:
        """The disk has the bytes, or those that were there when the sync began."""
        inode.synced = bytes(inode.data) if data is None else data
        self.version += 1

    def sync_directory(self, directory: Path, entries: Entries | None = None) -> None:
        """The disk has its entries, or those that were there when the sync began."""
        found = self.entries(directory) if entries is None else entries
        others = {path: i for path, i in self._durable.items() if path.parent != directory}
        self._durable = others | found
        self.version += 1

    def link(self, source: Path, target: Path) -> None:
        self.visible[target] = self.file(source)
        self.version += 1

    def symlink(self, target: Path) -> None:
        self.visible[target] = Inode(is_file=False)
        self.version += 1

    def rename(self, source: Path, target: Path) -> None:
        self.visible[target] = self.visible.pop(source)
        self.version += 1

    def remove(self, path: Path) -> None:
        self.visible.pop(path, None)
        self.version += 1

    def make_directory(self, path: Path) -> None:
        self.visible[path] = Inode(is_file=False)
        self.version += 1

    def pessimistic(self) -> Aftermath:
        """Only what was fsynced, bytes and entries."""
        return self._reachable(self._durable)

    def aftermaths(self) -> Iterator[Aftermath]:
        """What a cut at this moment may leave."""
        yield self.pessimistic()
        unsynced = self._unsynced_directories()
        if unsynced:
            yield self._reachable(self.visible)
        if len(unsynced) > 1:
            for kept in unsynced:
                others = {path: i for path, i in self._durable.items() if path.parent != kept}
                yield self._reachable(others | self.entries(kept))

    def _unsynced_directories(self) -> set[Path]:
        names = self.visible.keys() | self._durable.keys()
        return {
            path.parent
            for path in names
            if self.visible.get(path) is not self._durable.get(path)
            and path.is_relative_to(self.root)
        }

    def _reachable(self, entries: Entries) -> Aftermath:
        """The files whose directories are there too."""
        outside = (self.root, *self.root.parents)
        return {
            path: inode.synced
            for path, inode in entries.items()
            if inode.is_file
            and all(parent in entries or parent in outside for parent in path.parents)
        }


def violation(layout: Layout, files: Aftermath) -> str | None:
    """What promise is broken after a cut, None if all hold."""
    for path, data in files.items():
        if path.parent == layout.blobs and f"sha256-{_hexadecimal(data)}" != path.name:
            return f"promise 1: {path.name} has other bytes"
        if path.is_relative_to(layout.manifests) and len(path.parts) == len(layout.root.parts) + 5:
            if not data:
                return f"promise 3: the manifest {path} is half written"
            if missing := [d for d in Manifest.parse(data).blobs() if layout.blob(d) not in files]:
                return f"promise 2: {missing} are not durable"
    return None


_known: dict[int, tuple[bytes, str]] = {}


def _hexadecimal(data: bytes) -> str:
    """The digest, remembered with the very object: most cuts leave the same files."""
    found = _known.get(id(data))
    if found is None or found[0] is not data:
        if len(_known) > 1000:
            _known.clear()
        found = _known[id(data)] = data, sha256(data).hexdigest()
    return found[1]
