"""Files that are used where they are: nothing but their owner's disk holds the bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

import pytest
from qm.store import adopt as adopt_module
from qm.store.adopt import Fallback, How, NeedsCopy
from qm.store.blobs import BlobChanged, BlobKind, BlobUnreachable
from qm.store.claims import CLAIM_AGE_S
from qm.store.gc import collect
from qm.store.store import Store
from qm.store.writer import BlobWriter, DigestMismatch

DATA = b"GGUF" + bytes(range(256)) * 1000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's file that behaves as on another disk: it can't be linked or cloned."""
    path = tmp_path / "disk" / "model.gguf"
    path.parent.mkdir()
    path.write_bytes(DATA)
    real_link = os.link

    def across(src: Path, dst: Path, **options: bool) -> None:
        if Path(src).is_relative_to(path.parent):
            raise OSError(errno.EXDEV, "other device")
        real_link(src, dst, **options)

    monkeypatch.setattr(os, "link", across)
    monkeypatch.setattr(BlobWriter, "clone", lambda *_: False)
    return path


@pytest.fixture
def in_place(store: Store, source: Path) -> str:
    adoption = store.blobs.adopt(source, fallback=Fallback.IN_PLACE)
    assert (adoption.digest, adoption.how) == (DIGEST, How.IN_PLACE)
    return adoption.digest


def test_the_file_is_read_where_it_is(store: Store, source: Path, in_place: str) -> None:
    """No second copy, and the listing says whose file it is."""
    assert store.blobs.path(in_place).samefile(source)
    assert store.blobs.path(in_place).read_bytes() == DATA
    store.blobs.verify(in_place)
    (info,) = store.blobs.list()
    assert (info.kind, info.size_bytes, info.source) == (BlobKind.IN_PLACE, len(DATA), str(source))
    assert sum(path.lstat().st_size for path in store.layout.blobs.iterdir()) < 1000


def test_a_written_file_is_refused(store: Store, source: Path, in_place: str) -> None:
    """Promise 6, in place: size and time are watched."""
    os.utime(source, ns=(0, 0))
    with pytest.raises(BlobChanged, match="was written to"):
        store.blobs.path(in_place)
    source.write_bytes(b"GGUF other")
    with pytest.raises(BlobChanged, match="its size went from"):
        store.blobs.path(in_place)


def test_a_replaced_file_is_refused(store: Store, source: Path, in_place: str) -> None:
    """Even one of the same size and time: device and inode are watched."""
    before = source.stat()
    other = source.with_name("other")
    other.write_bytes(DATA[::-1])
    os.utime(other, ns=(before.st_mtime_ns, before.st_mtime_ns))
    other.replace(source)
    with pytest.raises(BlobChanged, match="another file"):
        store.blobs.path(in_place)
    assert not store.blobs.has(in_place)


def test_an_unplugged_disk_is_an_error_of_its_models(
    store: Store, source: Path, in_place: str
) -> None:
    """It is told by name, the listing stays whole, and plugging it in mends it."""
    source.parent.rename(source.parent.with_name("unplugged"))
    with pytest.raises(BlobUnreachable, match="plug its disk in"):
        store.blobs.path(in_place)
    assert [info.size_bytes for info in store.blobs.list()] == [len(DATA)]
    source.parent.with_name("unplugged").rename(source.parent)
    assert store.blobs.has(in_place)


def test_importing_again_mends_the_record(store: Store, source: Path, in_place: str) -> None:
    """The file was moved by its owner: the same bytes, found again elsewhere."""
    moved = source.rename(source.with_name("moved.gguf"))
    assert not store.blobs.has(in_place)
    assert store.blobs.adopt(moved, fallback=Fallback.IN_PLACE).how is How.IN_PLACE
    assert store.blobs.path(in_place).samefile(moved)


def test_own_bytes_take_its_place(store: Store, source: Path, in_place: str) -> None:
    """What was pulled or built is worth more than a file of somebody else."""
    assert store.blobs.put(DATA) == in_place
    source.unlink()
    store.blobs.verify(in_place)
    assert store.blobs.list()[0].kind is BlobKind.OWN


def test_own_bytes_are_not_given_up(store: Store, source: Path) -> None:
    """The other way round nothing changes."""
    store.blobs.put(DATA)
    assert store.blobs.adopt(source, fallback=Fallback.IN_PLACE).how is How.PRESENT
    assert store.blobs.list()[0].kind is BlobKind.OWN


def test_collecting_leaves_the_users_file(store: Store, source: Path, in_place: str) -> None:
    """Only the reference goes, and it frees nothing."""
    collected = collect(store, now_s=time.time() + CLAIM_AGE_S + 1)
    assert ([blob.digest for blob in collected.deleted], collected.freed_bytes) == ([in_place], 0)
    assert source.read_bytes() == DATA
    assert store.blobs.list() == []
    assert list(store.layout.watched.iterdir()) == []


def test_a_leftover_link_is_swept(store: Store, source: Path) -> None:
    """A crash between making the link and naming it costs nothing for ever."""
    leftover = store.layout.partial / "link-0123"
    leftover.symlink_to(source)
    collect(store)
    assert list(store.layout.partial.iterdir()) == []


def test_wrong_bytes_are_refused(store: Store, source: Path) -> None:
    """A file that should have a digest must have it; nothing is kept of another one."""
    wanted = f"sha256:{0:064}"
    for fallback in Fallback:
        with pytest.raises(DigestMismatch):
            store.blobs.adopt(source, digest=wanted, fallback=fallback)
    assert store.blobs.list() == []
    assert list(store.layout.partial.iterdir()) == []


def test_a_network_disk_is_not_watched(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times tell too little: such a file must be copied, and the caller decides."""
    monkeypatch.setattr(adopt_module, "network_file_system", lambda _: "nfs4")
    with pytest.raises(NeedsCopy, match="nfs4"):
        store.blobs.adopt(source, fallback=Fallback.IN_PLACE)
    assert store.blobs.adopt(source).how is How.COPY
