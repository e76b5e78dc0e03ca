"""Moving a store: what is refused, what is found again, what a full disk leaves."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from qm.store.blobs import BlobCorrupt
from qm.store.durable import StoreFull
from qm.store.layout import Layout
from qm.store.location import POINTER, StoreUnreachable, find_root
from qm.store.locks import publishing
from qm.store.move import InvalidTarget, StoreInUse, begin, bring, clean, finish, switch
from qm.store.store import Store, open_store
from qm.store.transplant import Transplant


def move(store: Store, home: Path, target: Path) -> None:
    one = begin(home, target)
    bring(one)
    switch(one, store.layout)
    clean(one)


def test_whoever_has_the_store_open_finds_it_again(store: Store, tmp_path: Path) -> None:
    """The same objects work at the new place, and so does every later start."""
    home, digest = store.layout.root, store.blobs.put(b"before")
    move(store, home, tmp_path / "new")
    assert store.blobs.path(digest).parent == tmp_path / "new" / "blobs"
    assert store.blobs.has(store.blobs.put(b"after"))
    with publishing(store.layout):
        assert (tmp_path / "new" / "lock").exists()
    assert open_store(home).blobs.has(digest)
    assert open_store(tmp_path / "new").blobs.has(digest)


def test_a_store_moves_again_and_again(store: Store, tmp_path: Path) -> None:
    """Each former place leads to the present one, and can be the next one."""
    home, digest = store.layout.root, store.blobs.put(b"weights")
    for target in ("a", "b", "a", "c"):
        move(store, home, tmp_path / target)
    for start in (home, tmp_path / "a", tmp_path / "b"):
        assert find_root(start) == tmp_path / "c"
    move(store, home, home)
    assert open_store(tmp_path / "a").layout.root == home
    assert store.blobs.has(digest)


def test_what_is_unfinished_can_not_be_taken_for_a_store(store: Store, tmp_path: Path) -> None:
    """Opening it says where the store is, and how the move goes on."""
    store.blobs.put(b"weights")
    bring(begin(store.layout.root, tmp_path / "new"))
    with pytest.raises(StoreUnreachable, match="qm store move"):
        open_store(tmp_path / "new")
    assert open_store(store.layout.root).layout.root == store.layout.root


def test_another_target_takes_the_place_of_an_unfinished_one(store: Store, tmp_path: Path) -> None:
    """What was brought there goes; the store itself was never touched."""
    home, digest = store.layout.root, store.blobs.put(b"weights")
    bring(begin(home, tmp_path / "first"))
    move(store, home, tmp_path / "second")
    assert list((tmp_path / "first").iterdir()) == []
    assert store.blobs.has(digest)


def test_a_finished_move_is_never_taken_for_an_unfinished_one(store: Store, tmp_path: Path) -> None:
    """Killed between switch and cleaning, and moved on: nothing is dropped."""
    home, digest = store.layout.root, store.blobs.put(b"weights")
    one = begin(home, tmp_path / "first")
    bring(one)
    switch(one, store.layout)
    move(store, home, tmp_path / "second")
    assert store.blobs.has(digest)
    assert not (home / "blobs").exists()


def test_a_disk_that_is_unplugged_is_said(store: Store, tmp_path: Path) -> None:
    """No empty store is made where the disk used to be."""
    home = store.layout.root
    move(store, home, tmp_path / "disk")
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    with pytest.raises(StoreUnreachable, match="plug its disk in"):
        open_store(home)
    assert not (tmp_path / "disk").exists()


def test_pointers_in_a_circle_end(tmp_path: Path) -> None:
    for here, there in (("a", "b"), ("b", "a")):
        (tmp_path / here / "blobs").mkdir(parents=True)
        (tmp_path / here / POINTER).write_text(f"{tmp_path / there}\n")
    with pytest.raises(StoreUnreachable, match="circles"):
        find_root(tmp_path / "a")


def test_nobody_writes_during_the_switch(store: Store, tmp_path: Path) -> None:
    """An upload that is under way would go to the old place."""
    one = begin(store.layout.root, tmp_path / "new")
    with store.blobs.writer() as writer:
        writer.write(b"half")
        with pytest.raises(StoreInUse):
            switch(one, store.layout)
    switch(one, store.layout)
    assert store.layout.root == tmp_path / "new"


def test_what_went_meanwhile_is_gone_there_too(store: Store, tmp_path: Path) -> None:
    """The switch brings what is new and drops what is no more."""
    old = store.blobs.put(b"old")
    one = begin(store.layout.root, tmp_path / "new")
    bring(one)
    store.layout.blob(old).unlink()
    new = store.blobs.put(b"new")
    switch(one, store.layout)
    assert [blob.digest for blob in store.blobs.list()] == [new]


def test_a_damaged_blob_is_not_copied(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across file systems every digest is checked; the store stays where it is."""
    path = store.blobs.path(store.blobs.put(b"weights"))
    path.chmod(0o644)
    path.write_bytes(b"other")
    monkeypatch.setattr(Transplant, "_linked", lambda *_: False)
    with pytest.raises(BlobCorrupt, match="repair"):
        bring(begin(store.layout.root, tmp_path / "new"))
    assert list((tmp_path / "new" / "blobs").iterdir()) == []
    assert find_root(store.layout.root) == store.layout.root


def test_a_full_disk_leaves_the_store_where_it_is(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what happened; with room, the same move goes on."""
    home = store.layout.root
    store.blobs.put(b"weights")
    one = begin(home, tmp_path / "new")
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", _full)
        with pytest.raises(StoreFull, match="moving the store"):
            bring(one)
    assert find_root(home) == home
    move(store, home, tmp_path / "new")
    finish(home)
    assert find_root(home) == tmp_path / "new"


def test_what_fails_in_the_switch_leaves_the_store_where_it_is(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home's pointer comes last of all."""
    home = store.layout.root
    one = begin(home, tmp_path / "new")
    bring(one)
    digest = store.blobs.put(b"came meanwhile")
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", _full)
        with pytest.raises(StoreFull):
            switch(one, store.layout)
    assert (find_root(home), store.layout.root) == (home, home)
    switch(one, store.layout)
    assert store.blobs.has(digest)


def _full(*_arguments: object, **_options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["store", "store/below", ".", "foreign"])
def test_a_target_that_can_not_be_is_refused(store: Store, tmp_path: Path, where: str) -> None:
    """Nothing is written there."""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidTarget):
        begin(store.layout.root, (tmp_path / where).absolute())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_target_that_another_store_moves_to_is_refused(store: Store, tmp_path: Path) -> None:
    begin(store.layout.root, tmp_path / "new")
    other = open_store(tmp_path / "other")
    with pytest.raises(InvalidTarget, match="is being moved"):
        begin(other.layout.root, tmp_path / "new")
    assert Layout(tmp_path / "new").blobs.is_dir()
