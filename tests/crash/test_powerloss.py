"""kill -9 can't find a missing fsync, because the kernel still writes: so the disk is modelled.

Worst cases that POSIX allows: bytes that were not fsynced are lost, and directory entries that were
not fsynced are either all lost or all kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.layout import Layout
from qm.store.leases import hold
from qm.store.name import Name
from qm.store.store import Store, open_store
from qm.store.writer import BlobWriter

OLD, NEW = b"GGUF old weights", b"GGUF new weights"
CALLS = ("open", "write", "pwrite", "fsync", "link", "rename", "unlink", "mkdir", "rmdir")


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

    def open(self, fd: int, name: Any, *_rest: Any) -> None:
        path = self._open[fd] = Path(name)
        if path.is_relative_to(self.root):
            self._visible.setdefault(path, Inode())
        elif path.is_file():  # a file of the user: its bytes count as unsynced
            self._visible.setdefault(path, Inode(bytearray(path.read_bytes())))

    def write(self, _written: int, fd: int, data: bytes) -> None:
        self._visible[self._open[fd]].data += data

    def pwrite(self, _written: int, fd: int, data: bytes, offset: int) -> None:
        self._visible[self._open[fd]].data[offset:] = data

    def fsync(self, _none: None, fd: int) -> None:
        path = self._open[fd]
        if path.is_dir():
            others = {p: f for p, f in self._durable.items() if p.parent != path}
            self._durable = others | {p: f for p, f in self._visible.items() if p.parent == path}
        else:
            self._visible[path].synced = bytes(self._visible[path].data)

    def link(self, _none: None, source: Any, target: Any, **_options: Any) -> None:
        self._visible[Path(target)] = self._visible[Path(source)]

    def rename(self, _none: None, source: Any, target: Any) -> None:
        self._visible[Path(target)] = self._visible.pop(Path(source))

    def unlink(self, _none: None, path: Any) -> None:
        self._visible.pop(Path(path), None)

    def mkdir(self, _none: None, path: Any, *_mode: Any) -> None:
        self._visible[Path(path)] = Inode()

    rmdir = unlink

    def cut(self) -> None:
        """Both worst cases of a cut at this moment."""
        self.aftermaths += [self.pessimistic(), self._reachable(self._visible)]

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
def recorded(root: Path, *, ignoring: Callable[[Path], bool] | None = None) -> Iterator[Disk]:
    """Follows all changes below `root`; the disk takes no notice of the fsyncs to be ignored."""
    disk = Disk(root)

    def follow(name: str, call: Callable[..., Any]) -> Callable[..., Any]:  # Any: nine signatures
        def followed(*args: Any, **options: Any) -> Any:
            result = call(*args, **options)
            if name == "fsync" and ignoring is not None and ignoring(disk._open[args[0]]):
                return result
            getattr(disk, name)(result, *args, **options)
            disk.cut()
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


def publish_new(store: Store, name: str, digest: str) -> None:
    config = Descriptor(CONFIG_TYPE, store.blobs.put(b"{}"), 2)
    layer = Descriptor(MODEL_TYPE, digest, len(NEW))
    store.manifests.write(Name.parse(name), Manifest(config, (layer,)))


def put(store: Store, _source: Path) -> str:
    with hold(store.layout):
        return store.blobs.put(NEW)


def adopt(store: Store, source: Path) -> str:
    return store.blobs.adopt(source).digest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of the user with the new model's bytes."""
    path = tmp_path / "source.gguf"
    path.write_bytes(NEW)
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with the old model `m`."""
    monkeypatch.setattr(BlobWriter, "clone", lambda *_: False)  # the disk model knows no clones
    store = open_store(tmp_path / "store")
    config = Descriptor(CONFIG_TYPE, store.blobs.put(b"{}"), 2)
    layer = Descriptor(MODEL_TYPE, store.blobs.put(OLD), len(OLD))
    store.manifests.write(Name.parse("m"), Manifest(config, (layer,)))
    return store


@pytest.mark.parametrize("get_weights", [put, adopt])
@pytest.mark.parametrize("name", ["m", "hf.co/org/other"])
def test_a_power_cut_at_any_moment_breaks_no_promise(
    store: Store, source: Path, get_weights: Callable[[Store, Path], str], name: str
) -> None:
    """Promises 1 to 3 hold in every aftermath, and what was reported done stays done."""
    with recorded(store.layout.root) as disk:
        publish_new(store, name, get_weights(store, source))
    assert len(disk.aftermaths) > 40
    assert {violation(store.layout, files) for files in disk.aftermaths} == {None}
    path = store.layout.manifest(Name.parse(name))
    assert disk.pessimistic()[path] == path.read_bytes()


@pytest.mark.parametrize(
    ("ignored", "broken"),
    [
        (lambda path: path.name.startswith("write-"), "promise 1"),
        (lambda path: path.name == "blobs", "promise 2"),
        (lambda path: path.name.startswith("replace-"), "promise 3"),
    ],
    ids=["blob", "blobs directory", "manifest"],
)
def test_each_fsync_is_needed(
    store: Store, source: Path, ignored: Callable[[Path], bool], broken: str
) -> None:
    """This test would notice if one of them went missing."""
    with recorded(store.layout.root, ignoring=ignored) as disk:
        publish_new(store, "m", put(store, source))
    found = {violation(store.layout, files) for files in disk.aftermaths} - {None}
    assert found
    assert all(str(reason).startswith(broken) for reason in found)


def test_the_manifests_directory_is_synced(store: Store, source: Path) -> None:
    """Without it the model would be gone after it was reported done."""
    with recorded(store.layout.root, ignoring=lambda path: path.name == "other") as disk:
        publish_new(store, "hf.co/org/other", put(store, source))
    assert store.layout.manifest(Name.parse("hf.co/org/other")) not in disk.pessimistic()


def test_a_deleted_model_stays_deleted(store: Store) -> None:
    """The directory is fsynced after the name went."""
    with recorded(store.layout.root) as disk:
        store.manifests.delete(Name.parse("m"))
    assert store.layout.manifest(Name.parse("m")) not in disk.pessimistic()
    assert {violation(store.layout, files) for files in disk.aftermaths} == {None}
