from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from qm.store.behind import HashBehind
from qm.store.blobs import BlobCorrupt, BlobKind, BlobMissing
from qm.store.durable import StoreFailed, StoreFull
from qm.store.layout import InvalidDigest
from qm.store.store import Store, open_store
from qm.store.writer import DigestMismatch


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def files_below(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def test_a_blob_has_the_name_of_its_bytes(store: Store) -> None:
    """Promise 1: what is published hashes to its name, and nobody may write to it."""
    digest = store.blobs.put(b"hello")
    assert digest == digest_of(b"hello")
    assert store.blobs.path(digest).read_bytes() == b"hello"
    assert store.blobs.path(digest).stat().st_mode & 0o777 == 0o444
    assert store.blobs.has(digest)
    assert store.blobs.size(digest) == 5


def test_the_empty_blob_is_a_blob(store: Store) -> None:
    """No bytes are bytes too."""
    assert store.blobs.size(store.blobs.put(b"")) == 0


def test_hashing_behind_gives_the_same_digest(store: Store) -> None:
    """Whether the pieces are smaller or larger than what is read back at once, and after it too."""
    pieces = [bytes([number]) * size for number, size in enumerate((1, 3 << 20, 0, 70_000, 5))]
    with store.blobs.writer() as writer:
        with writer.hashing_behind():
            for piece in pieces:
                writer.write(piece)
        writer.write(b"end")
        assert writer.commit() == digest_of(b"".join(pieces) + b"end")


def test_hashing_behind_tells_what_it_could_not_read(tmp_path: Path) -> None:
    """A file that is shorter than what was written to it has no digest."""
    (tmp_path / "file").write_bytes(b"four")
    with (tmp_path / "file").open("rb") as file:
        behind = HashBehind(file.fileno(), hashlib.sha256())
        behind.wrote(9)
        with pytest.raises(OSError, match="lost"):
            behind.finish()


def test_what_a_tool_wrote_can_be_looked_at_while_it_is_hashed(store: Store) -> None:
    """The digest is that of the tool's bytes; of a file that is refused nothing is kept."""
    data = bytes(range(256)) * 20_000
    with store.blobs.writer() as writer:
        with writer.filled_by(lambda path: path.write_bytes(data)):
            assert writer.path.read_bytes() == data
        assert writer.commit() == digest_of(data)
    with (
        pytest.raises(ValueError, match="refused"),
        store.blobs.writer() as writer,
        writer.filled_by(lambda path: path.write_bytes(b"other")),
    ):
        raise ValueError("refused")
    assert [each.digest for each in store.blobs.list()] == [digest_of(data)]
    assert files_below(store.layout.partial) == []


def test_nothing_is_visible_without_commit(store: Store) -> None:
    """An abandoned writer leaves neither a blob nor its temporary file."""
    with store.blobs.writer() as writer:
        writer.write(b"half")
        assert store.blobs.list() == []
    assert files_below(store.layout.blobs) == files_below(store.layout.partial) == []


@pytest.mark.parametrize(
    ("digest", "size_bytes"), [(digest_of(b"other"), None), (None, 3), (None, 5)]
)
def test_wrong_bytes_are_not_kept(store: Store, digest: str | None, size_bytes: int | None) -> None:
    """A digest or size that does not hold is an error, and the store stays as it was."""
    with (
        pytest.raises(DigestMismatch),
        store.blobs.writer(digest=digest, size_bytes=size_bytes) as writer,
    ):
        writer.write(b"four")
        writer.commit()
    assert files_below(store.layout.blobs) == files_below(store.layout.partial) == []


def test_a_writer_refuses_a_wrong_digest_before_it_writes(store: Store) -> None:
    """A digest from outside never becomes a path."""
    with pytest.raises(InvalidDigest), store.blobs.writer(digest="sha256:../../x"):
        pass


def test_a_missing_blob_is_a_typed_error(store: Store) -> None:
    """404, with the digest."""
    digest = digest_of(b"none")
    for ask in (store.blobs.path, store.blobs.size, store.blobs.verify):
        with pytest.raises(BlobMissing, match=digest):
            ask(digest)
    assert not store.blobs.has(digest)
    assert not store.blobs.keep(digest)


def test_a_directory_in_the_place_of_a_blob_is_not_one(store: Store) -> None:
    """Only regular files are blobs."""
    digest = digest_of(b"directory")
    store.layout.blob(digest).mkdir()
    with pytest.raises(BlobCorrupt):
        store.blobs.path(digest)


def test_a_link_in_the_place_of_a_blob_is_not_followed(store: Store, tmp_path: Path) -> None:
    """A symbolic link can't make a blob out of a file elsewhere."""
    (tmp_path / "secret").write_bytes(b"secret")
    digest = digest_of(b"secret")
    store.layout.blob(digest).symlink_to(tmp_path / "secret")
    with pytest.raises(BlobCorrupt):
        store.blobs.path(digest)


def test_list_tells_every_blob_once(store: Store) -> None:
    """In the order of digests, and nothing that is no blob."""
    digests = sorted(store.blobs.put(data) for data in (b"a", b"b", b"a"))
    (store.layout.blobs / ".DS_Store").write_bytes(b"")
    blobs = store.blobs.list()
    assert [blob.digest for blob in blobs] == sorted(set(digests))
    assert {blob.kind for blob in blobs} == {BlobKind.OWN}


def test_the_same_blob_again_is_a_success(store: Store) -> None:
    """Two writers of the same bytes both succeed; the first one's file stays."""
    with store.blobs.writer() as first, store.blobs.writer() as second:
        first.write(b"same")
        second.write(b"same")
        digest = first.commit()
        inode = store.blobs.path(digest).stat().st_ino
        assert second.commit_new() == (digest, False)
    assert store.blobs.path(digest).stat().st_ino == inode


def test_a_damaged_blob_is_mended_by_publishing_it_again(store: Store) -> None:
    """EEXIST counts as success only after the bytes were read again."""
    digest = store.blobs.put(b"precious")
    damage(store.layout.blob(digest))
    with pytest.raises(BlobCorrupt, match=digest):
        store.blobs.verify(digest)
    assert store.blobs.put(b"precious") == digest
    store.blobs.verify(digest)


def damage(path: Path) -> None:
    """Flips one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("position", [0, 1_500_000, 2_999_999])
def test_verify_finds_a_flipped_bit_anywhere(store: Store, position: int) -> None:
    """First byte, middle, last byte: one bit is enough."""
    digest = store.blobs.put(os.urandom(3_000_000))
    store.blobs.verify(digest)
    path = store.layout.blob(digest)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 4]))
    with pytest.raises(BlobCorrupt, match=digest):
        store.blobs.verify(digest)


def test_verify_tells_how_far_it_got(store: Store) -> None:
    """Progress is (done, total), ending with everything done."""
    digest = store.blobs.put(bytes(3 << 20))
    seen: list[tuple[int, int]] = []
    store.blobs.verify(digest, lambda done, total: seen.append((done, total)))
    assert seen == [(n << 20, 3 << 20) for n in (1, 2, 3)]


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failing_disk_is_a_typed_error_and_keeps_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Any error of write, fsync or link drops the whole write: no blob, no temporary file."""

    def fail(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StoreFailed if number == errno.EIO else StoreFull):
        store.blobs.put(b"unlucky")
    monkeypatch.undo()
    assert files_below(store.layout.blobs) == files_below(store.layout.partial) == []
    assert store.blobs.put(b"unlucky")


def test_a_disk_too_small_says_so_before_the_first_byte(tmp_path: Path) -> None:
    """The room is reserved first; the error names the bytes that were needed."""
    open_store(tmp_path)
    program = f"""
import resource
from pathlib import Path
from qm.store.durable import StoreFull
from qm.store.store import open_store
store = open_store(Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, {resource.RLIM_INFINITY}))
try:
    with store.blobs.writer(size_bytes=8 << 20):
        print("started")
except StoreFull as error:
    print(error.status, error)
try:
    with store.blobs.writer() as writer:
        for _ in range(8):
            writer.write(bytes(1 << 20))
        writer.commit()
except StoreFull as error:
    print(error.status, error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    first, second = run.stdout.splitlines()
    assert first.startswith("507") and str(8 << 20) in first
    assert second.startswith("507") and str(2 << 20) in second
    assert files_below(tmp_path / "blobs") == files_below(tmp_path / "partial") == []


def test_a_blob_collected_between_two_looks_is_published_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that link found is gone when it is read again: ours takes its place."""
    digest = store.blobs.put(b"flighty")
    real_link = os.link

    def vanishing(source: Path, target: Path, **options: bool) -> None:
        monkeypatch.setattr(os, "link", real_link)
        try:
            real_link(source, target, **options)
        finally:
            store.layout.blob(digest).unlink()

    monkeypatch.setattr(os, "link", vanishing)
    assert store.blobs.put(b"flighty") == digest
    store.blobs.verify(digest)


def test_without_hard_links_a_rename_publishes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On exFAT and its like link fails; publishing works all the same, also a second time."""

    def no_links(*_args: object, **_options: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    digest = store.blobs.put(b"hello")
    assert store.blobs.put(b"hello") == digest
    store.blobs.verify(digest)
    assert files_below(store.layout.partial) == []


def test_many_threads_publish_one_blob(store: Store) -> None:
    """All succeed, one file results, nothing is left over."""
    data = os.urandom(200_000)
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda: digests.append(store.blobs.put(data))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert digests == [digest_of(data)] * 8
    assert len(files_below(store.layout.blobs)) == 1
    assert files_below(store.layout.partial) == []
