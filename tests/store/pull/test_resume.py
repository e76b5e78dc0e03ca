"""Going on with what is on the disk, and what of it to believe."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from huggingface_hub import constants
from qm.store.leases import hold
from qm.store.pull import front
from qm.store.pull.download import Limits
from qm.store.pull.fetch import Fetched, RepoFetch
from qm.store.pull.fetching import DownloadFailed
from qm.store.pull.hub import Listing, list_repo
from qm.store.store import Store

from tests.fakehub import FakeHub

STEP = 1 << 20
SIZE = 12 << 20
PATH = "org/tiny/model.gguf"


@pytest.fixture
def weights(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(front, "STEP_BYTES", STEP)
    data = b"GGUF" + os.urandom(SIZE - 4)
    (hub.repos.root / "org/tiny").mkdir(parents=True)
    (hub.repos.root / "org/tiny/model.gguf").write_bytes(data)
    return data


@pytest.fixture
def listing(hub: FakeHub, weights: bytes) -> Listing:
    return list_repo("org/tiny", endpoint=hub.url)


def fetch(store: Store, listing: Listing, patience: int = 4) -> Fetched:
    limits = Limits(connections=1, stall_s=2.0, patience=patience)
    with hold(store.layout) as lease:
        fetch = RepoFetch(store, lease, listing, lambda _step: None, limits)
        return fetch.fetch(listing.files)["model.gguf"]


def interrupted(store: Store, hub: FakeHub, listing: Listing, at: int) -> Path:
    """The partial file of a pull that ended there."""
    hub.fault("drop", path=PATH, side="cdn", bytes=at)
    hub.fault("delay", path=PATH, side="cdn", seconds=0.5, times=0, skip=1)  # time for hashing
    hub.fault("status", path=PATH, side="cdn", status=503, times=0, skip=1)
    with pytest.raises(DownloadFailed):
        fetch(store, listing, patience=2)
    hub.faults.clear()
    hub.log.clear()
    (path,) = store.layout.partial.glob("pull-*/data")
    return path


def test_a_resumed_pull_fetches_only_the_rest(
    store: Store, hub: FakeHub, listing: Listing, weights: bytes
) -> None:
    """And reads what is there again, to be sure."""
    interrupted(store, hub, listing, 7 << 20)
    assert fetch(store, listing).path.read_bytes() == weights
    assert hub.sent_bytes() <= SIZE - (7 << 20) + (1 << 20)
    asked = [entry for entry in hub.log if entry["side"] == "cdn"]
    assert all(not str(entry["range"]).startswith("bytes=0-") for entry in asked)
    assert all(entry["if_range"] for entry in asked), "the file may have become another one"


def test_a_step_that_changed_on_the_disk_is_fetched_again_alone(
    store: Store, hub: FakeHub, listing: Listing, weights: bytes
) -> None:
    """The digests of beginnings tell which one it is."""
    path = interrupted(store, hub, listing, 7 << 20)
    with path.open("r+b") as file:
        file.seek(2 * STEP + 5)
        file.write(b"flip")
    assert fetch(store, listing).path.read_bytes() == weights
    asked = [entry["range"] for entry in hub.log if entry["side"] == "cdn"]
    assert f"bytes={2 * STEP}-{3 * STEP - 1}" in asked
    assert hub.sent_bytes() <= SIZE - (7 << 20) + 2 * STEP


def test_another_etag_means_another_file(
    store: Store, hub: FakeHub, listing: Listing, weights: bytes
) -> None:
    """A 200 to the If-Range of a resumed pull: nothing of what was there is used."""
    interrupted(store, hub, listing, 7 << 20)
    hub.fault("etag", path=PATH, side="cdn", times=0)
    assert fetch(store, listing).path.read_bytes() == weights
    assert hub.sent_bytes() >= SIZE


def test_the_bytes_are_durable_before_they_are_visible(
    store: Store, listing: Listing, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsync of the file, link, fsync of the directory, in this order."""
    told: list[str] = []
    real_sync, real_link = os.fsync, os.link

    def name(fd: int) -> str:
        return Path(f"/proc/self/fd/{fd}").readlink().name

    def sync(fd: int) -> None:
        told.append(f"sync {name(fd)}")
        real_sync(fd)

    def link(source: Path, target: Path, **options: bool) -> None:
        told.append(f"link {source.name}")
        real_link(source, target, **options)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", link)
    fetch(store, listing)
    at = told.index("link data")
    assert "sync data" in told[:at]
    assert told[at + 1] == "sync blobs"


def cached(hub: FakeHub, tmp_path: Path, data: bytes, digest: str) -> Path:
    folder = Path(constants.HF_HUB_CACHE) / "models--org--tiny" / "blobs"
    folder.mkdir(parents=True)
    path = folder / digest
    path.write_bytes(data)
    return path


def test_the_hugging_face_cache_saves_the_download(
    store: Store, hub: FakeHub, listing: Listing, weights: bytes, tmp_path: Path
) -> None:
    """The file is shared with it, not copied, where links can be made."""
    path = cached(hub, tmp_path, weights, hashlib.sha256(weights).hexdigest())
    fetched = fetch(store, listing)
    assert hub.sent_bytes() == 0
    assert fetched.path.read_bytes() == weights
    assert fetched.path.stat().st_ino == path.stat().st_ino or path.stat().st_nlink == 1


@pytest.mark.parametrize("damage", ["flipped", "short", "a symbolic link"])
def test_a_damaged_cache_is_not_believed(
    store: Store, hub: FakeHub, listing: Listing, weights: bytes, tmp_path: Path, damage: str
) -> None:
    """Its bytes are hashed before they count."""
    path = cached(hub, tmp_path, weights, hashlib.sha256(weights).hexdigest())
    if damage == "flipped":
        path.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    elif damage == "short":
        path.write_bytes(weights[:-1])
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    assert fetch(store, listing).path.read_bytes() == weights
    assert hub.sent_bytes() == SIZE


def test_files_that_are_no_gguf_come_from_the_cache_too(
    store: Store, hub: FakeHub, tmp_path: Path
) -> None:
    """Builds need safetensors; those are copied."""
    data = os.urandom(3 << 20)
    (hub.repos.root / "org/tiny").mkdir(parents=True)
    (hub.repos.root / "org/tiny/model.safetensors").write_bytes(data)
    cached(hub, tmp_path, data, hashlib.sha256(data).hexdigest())
    listing = list_repo("org/tiny", endpoint=hub.url)
    with hold(store.layout) as lease:
        fetch = RepoFetch(store, lease, listing, lambda _step: None)
        fetched = fetch.fetch(listing.files)["model.safetensors"]
    assert fetched.path.read_bytes() == data
    assert hub.sent_bytes() == 0
