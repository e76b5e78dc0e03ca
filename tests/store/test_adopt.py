from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qm.store import adopt as adopt_module
from qm.store.adopt import How, NotAGguf, SourceChanged
from qm.store.blobs import BlobChanged, BlobKind
from qm.store.gc import collect
from qm.store.manifests import Descriptor, Manifest
from qm.store.name import Name
from qm.store.publish import publish
from qm.store.store import Store
from qm.store.watch import WatchUnreadable
from qm.store.writer import BlobWriter

DATA = b"GGUF" + bytes(range(256)) * 10_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of the user that begins like a GGUF."""
    path = tmp_path / "model.gguf"
    path.write_bytes(DATA)
    return path


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_a_file_on_the_same_disk_is_not_copied(store: Store, source: Path) -> None:
    """Promise 6: a reflink where there are any, else a watched hard link."""
    adoption = store.blobs.adopt(source)
    assert (adoption.digest, adoption.size_bytes) == (digest_of(DATA), len(DATA))
    assert adoption.how in (How.LINK, How.REFLINK)
    if adoption.how is How.LINK:
        assert store.blobs.path(adoption.digest).samefile(source)
        assert store.blobs.list()[0].kind is BlobKind.ADOPTED
    assert list(store.layout.partial.iterdir()) == []


def test_the_user_may_delete_the_file(store: Store, source: Path) -> None:
    """The blob stays when its other name goes."""
    digest = store.blobs.adopt(source).digest
    source.unlink()
    store.blobs.verify(digest)


def test_the_users_file_keeps_its_mode(store: Store, source: Path) -> None:
    """Adopting changes nothing that the user sees."""
    before = source.stat()
    store.blobs.adopt(source)
    after = source.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_adopting_again_finds_it_present(store: Store, source: Path, tmp_path: Path) -> None:
    """The same bytes under any name are there already."""
    store.blobs.adopt(source)
    other = tmp_path / "other.gguf"
    other.write_bytes(DATA)
    assert store.blobs.adopt(source).how is How.PRESENT
    assert store.blobs.adopt(other).how is How.PRESENT
    assert len(store.blobs.list()) == 1


def write_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 100)


@pytest.fixture
def linked(store: Store, source: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of a hard-linked file, also where reflinks would have been taken."""
    monkeypatch.setattr(BlobWriter, "clone", lambda *_: False)
    adoption = store.blobs.adopt(source)
    assert adoption.how is How.LINK
    return adoption.digest


@pytest.mark.parametrize("change", [write_in_place, append, truncate])
def test_a_changed_file_is_refused(
    store: Store, source: Path, linked: str, change: Callable[[Path], None]
) -> None:
    """Promise 6: what shares bytes with a file that was written to is not loaded any more."""
    os.utime(source, ns=(0, 0))  # any other time than the one that was recorded
    change(source)
    with pytest.raises(BlobChanged, match=str(source)) as caught:
        store.blobs.path(linked)
    assert caught.value.status == 409
    assert not store.blobs.has(linked)
    with pytest.raises(BlobChanged):
        store.blobs.verify(linked)


def test_a_model_is_not_registered_over_a_changed_file(
    store: Store, source: Path, linked: str
) -> None:
    """Promise 2: a visible model's blobs are what they should be."""
    append(source)
    layer = Descriptor("application/vnd.ollama.image.model", linked, len(DATA))
    config = Descriptor("application/json", store.blobs.put(b"{}"), 2)
    with pytest.raises(BlobChanged):
        store.manifests.write(Name.parse("a"), Manifest(config, (layer,)))


def test_publishing_the_true_bytes_mends_a_changed_blob(
    store: Store, source: Path, linked: str
) -> None:
    """The new file takes the place of the shared one, and nobody watches it any more."""
    append(source)
    assert store.blobs.put(DATA) == linked
    store.blobs.verify(linked)
    assert not store.blobs.path(linked).samefile(source)
    assert store.blobs.list()[0].kind is BlobKind.OWN


def test_adopting_a_sound_copy_mends_a_changed_blob(
    store: Store, source: Path, linked: str, tmp_path: Path
) -> None:
    """The copy is watched instead of the changed file."""
    append(source)
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(DATA)
    assert store.blobs.adopt(copy).how is How.LINK
    assert store.blobs.path(linked).samefile(copy)
    append(copy)
    assert not store.blobs.has(linked)


def test_a_record_of_another_file_does_not_condemn_the_blob(store: Store, source: Path) -> None:
    """An adoption that died before its link leaves a record; the next publisher is not its file."""
    digest = store.blobs.put(DATA)
    record = '{"device":1,"inode":1,"size_bytes":1,"mtime_ns":1,"source":"/gone"}'
    store.layout.watch(digest).write_text(record)
    assert store.blobs.has(digest)
    assert store.blobs.list()[0].kind is BlobKind.OWN


def test_an_unreadable_record_is_an_error(store: Store, linked: str) -> None:
    """Nobody vouches for a file whose record is damaged."""
    store.layout.watch(linked).write_text("{")
    with pytest.raises(WatchUnreadable):
        store.blobs.path(linked)


def test_another_file_system_means_a_copy(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across devices the bytes are copied, with progress, and not watched."""
    real_link = os.link

    def across(src: Path, dst: Path, **options: bool) -> None:
        if Path(src) == source:
            raise OSError(errno.EXDEV, "other device")
        real_link(src, dst, **options)

    monkeypatch.setattr(BlobWriter, "clone", lambda *_: False)
    monkeypatch.setattr(os, "link", across)
    seen: list[tuple[int, int]] = []
    adoption = store.blobs.adopt(source, on_progress=lambda *step: seen.append(step))
    assert adoption.how is How.COPY
    assert seen[-1] == (len(DATA), len(DATA))
    append(source)
    store.blobs.verify(adoption.digest)


def test_what_is_no_gguf_gets_one_answer(store: Store, tmp_path: Path) -> None:
    """Nothing about a file shows through the error: not that it exists, nor what it is."""
    path = tmp_path / "x"
    answers = set()

    def attempt() -> None:
        with pytest.raises(NotAGguf) as caught:
            store.blobs.adopt(path)
        answers.add(caught.value.message)
        assert caught.value.status == 400

    attempt()  # missing
    path.write_bytes(b"root:x:0:0")
    attempt()
    path.write_bytes(b"GGU")
    attempt()
    path.unlink()
    os.mkfifo(path)
    attempt()  # and does not hang
    path.unlink()
    path.mkdir()
    attempt()
    path.rmdir()
    path.symlink_to("/dev/zero")
    attempt()
    path.unlink()
    (tmp_path / "real").write_bytes(DATA)
    path.symlink_to(tmp_path / "real")
    attempt()
    assert len(answers) == 1
    assert store.blobs.list() == []


@pytest.mark.parametrize("path", ["/etc/passwd", "/dev/random", "/dev/zero", "/proc/self/mem"])
def test_system_files_are_refused(store: Store, path: str) -> None:
    """Device files too, without reading from them."""
    with pytest.raises(NotAGguf):
        store.blobs.adopt(Path(path))


def test_a_zero_byte_in_the_path_is_refused(store: Store) -> None:
    """As any other path where no GGUF is."""
    with pytest.raises(NotAGguf):
        store.blobs.adopt(Path("/tmp/a\0b"))


def test_a_file_that_changes_while_it_is_read_is_refused(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A digest of two states of a file would be the digest of neither."""
    monkeypatch.setattr(BlobWriter, "clone", lambda *_: False)
    with pytest.raises(SourceChanged):
        store.blobs.adopt(source, on_progress=lambda *_: append(source))
    assert store.blobs.list() == []


def test_a_file_replaced_while_it_is_read_is_refused(
    store: Store, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name must still mean the file whose bytes were hashed."""
    monkeypatch.setattr(BlobWriter, "clone", lambda *_: False)
    new = tmp_path / "new"
    new.write_bytes(DATA[::-1])

    def replace_once(*_step: int) -> None:
        if new.exists():
            new.replace(source)

    with pytest.raises(SourceChanged):
        store.blobs.adopt(source, on_progress=replace_once)
    assert store.blobs.list() == []


def test_a_collection_leaves_an_adoption_under_way(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second name is locked, as nobody else's is."""
    monkeypatch.setattr(BlobWriter, "clone", lambda *_: False)
    seen = list[Path]()

    def after_a_collection(*args: Any, **options: Any) -> bool:
        collect(store)
        seen.extend(store.layout.partial.iterdir())
        return publish(*args, **options)

    monkeypatch.setattr(adopt_module, "publish", after_a_collection)
    assert store.blobs.adopt(source).how is How.LINK
    assert len(seen) == 1
    assert list(store.layout.partial.iterdir()) == []


def test_a_file_that_somebody_wants_alone_is_copied(store: Store, source: Path) -> None:
    """Nothing of ours would tell a collection that its second name is in use."""
    with source.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert store.blobs.adopt(source).how in (How.COPY, How.REFLINK)


def test_two_processes_adopt_the_same_bytes(store: Store, source: Path, tmp_path: Path) -> None:
    """Whoever loses the race finds the blob; the record is about the file that won."""
    (tmp_path / "twin.gguf").write_bytes(DATA)
    program = (
        "import sys; from pathlib import Path; from qm.store.store import open_store; "
        "print(open_store(Path(sys.argv[1])).blobs.adopt(Path(sys.argv[2])).digest)"
    )
    root = str(store.layout.root)
    children = [
        subprocess.Popen([sys.executable, "-c", program, root, str(path)], stdout=subprocess.PIPE)
        for path in (source, tmp_path / "twin.gguf") * 3
    ]
    digests = {child.communicate(timeout=60)[0].decode().strip() for child in children}
    assert digests == {digest_of(DATA)}
    winner = store.blobs.path(digests.pop())
    if store.blobs.list()[0].kind is BlobKind.ADOPTED:
        append(winner)
        assert not store.blobs.has(digest_of(DATA))


def test_the_real_model_is_adopted(store: Store, smollm2_gguf: Path) -> None:
    """98 MB, whatever way its file system allows."""
    adoption = store.blobs.adopt(smollm2_gguf)
    assert adoption.size_bytes == smollm2_gguf.stat().st_size
    store.blobs.verify(adoption.digest)
