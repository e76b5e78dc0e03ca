"""Files of a repository, fetched from a hub that misbehaves."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from qm.store.leases import hold
from qm.store.pull import work
from qm.store.pull.download import Limits, WrongDigest
from qm.store.pull.fetch import Fetched, RepoFetch
from qm.store.pull.fetching import DownloadFailed
from qm.store.pull.hub import list_repo
from qm.store.pull.mending import PIECE_BYTES
from qm.store.store import Store

from tests.fakehub import FakeHub

SIZE = 40 << 20
PATH = "org/tiny/model.gguf"
QUICK = Limits(connections=3, stall_s=1.0, patience=6)


@pytest.fixture(scope="module")
def weights() -> bytes:
    """Some segments that differ from each other."""
    return b"GGUF" + os.urandom(SIZE - 4 + 12345)


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of a back-off has tests of its own."""
    monkeypatch.setattr(work, "backoff_s", lambda _failures, _chance: 0.01)


@pytest.fixture
def even_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of 16 MiB each, however quick they are."""
    monkeypatch.setattr(work, "LONGEST_SEGMENT_BYTES", work.SEGMENT_BYTES)


@pytest.fixture
def repo(hub: FakeHub, weights: bytes) -> Path:
    folder = hub.repos.root / "org/tiny"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(weights)
    (folder / "config.json").write_bytes(b'{"a": 1}')
    return folder


def fetch(store: Store, hub: FakeHub, limits: Limits = QUICK) -> dict[str, Fetched]:
    """All files of the repository, and what was told on the way."""
    listing = list_repo("org/tiny", endpoint=hub.url)
    with hold(store.layout) as lease:
        return RepoFetch(store, lease, listing, lambda _step: None, limits).fetch(listing.files)


def check(store: Store, fetched: dict[str, Fetched], weights: bytes) -> None:
    """The blob is right, and nothing is left of the way."""
    digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
    assert fetched["model.gguf"].digest == digest
    assert store.layout.blob(digest).read_bytes() == weights
    assert store.layout.blob(digest).stat().st_mode & 0o777 == 0o444
    assert list(store.layout.partial.iterdir()) == []


def test_files_become_blobs(store: Store, hub: FakeHub, repo: Path, weights: bytes) -> None:
    """Large ones in ranges over several connections, small ones whole."""
    fetched = fetch(store, hub)
    check(store, fetched, weights)
    assert fetched["config.json"].path.read_bytes() == b'{"a": 1}'
    assert all(each.new for each in fetched.values())
    ranges = [entry["range"] for entry in hub.log if entry["side"] == "cdn"]
    assert len(ranges) == 3
    assert all(ranges)
    assert hub.sent_bytes() == len(weights)


def test_what_is_here_is_not_fetched_again(
    store: Store, hub: FakeHub, repo: Path, weights: bytes
) -> None:
    """Its digest is known before."""
    fetch(store, hub)
    hub.log.clear()
    assert not any(each.new for each in fetch(store, hub).values())
    assert hub.sent_bytes() == 0


FAULTS: dict[str, dict[str, Any]] = {
    "drop": {"bytes": 3_000_000, "times": 4},
    "stall": {"bytes": 3_000_000, "seconds": 3.0},
    "truncate": {"bytes": 3_000_000, "times": 3},
    "norange": {"times": 1},
    "badrange": {"times": 3, "skip": 1},
    "etag": {"times": 1, "skip": 1},
    "status": {"status": 503, "times": 3},
    "delay": {"seconds": 0.5, "times": 2},
    "corrupt": {"bytes": 20_000_000, "times": 1, "skip": 1},
}


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_fault_of_the_network_costs_only_time(
    store: Store, hub: FakeHub, repo: Path, weights: bytes, kind: str
) -> None:
    """The bytes are right in the end."""
    hub.fault(kind, path=PATH, side="cdn", **FAULTS[kind])
    check(store, fetch(store, hub), weights)
    assert hub.faults[0].times == -1 or kind == "corrupt"  # it did strike


def test_an_expired_link_is_asked_for_anew(
    store: Store, hub: FakeHub, repo: Path, weights: bytes
) -> None:
    """A 403 of the storage is no refusal by the hub."""
    hub.fault("status", path=PATH, side="cdn", status=403, times=2)
    check(store, fetch(store, hub), weights)
    assert len([e for e in hub.log if e["side"] == "hub" and e["method"] == "HEAD"]) >= 2


def test_a_server_that_never_heard_of_ranges_is_good_enough(
    store: Store, hub: FakeHub, repo: Path, weights: bytes
) -> None:
    """One connection, from the start."""
    hub.fault("norange", path=PATH, side="cdn", times=0)
    check(store, fetch(store, hub), weights)


def test_a_busy_server_is_obeyed(store: Store, hub: FakeHub, repo: Path, weights: bytes) -> None:
    """It says when it wants to see us again, and that is when we come."""
    hub.fault("status", path=PATH, side="cdn", status=429, seconds=1.0)
    check(store, fetch(store, hub), weights)


def test_a_lasting_fault_keeps_what_came(
    store: Store, hub: FakeHub, repo: Path, weights: bytes
) -> None:
    """The error says how much is kept; the next pull fetches only the rest."""
    fault = hub.fault("drop", path=PATH, side="cdn", times=0, bytes=0, skip=2)
    with pytest.raises(DownloadFailed, match=r"org/tiny/model\.gguf failed: .* bytes are kept"):
        fetch(store, hub)
    assert not store.blobs.list() or store.blobs.list()[0].size_bytes < SIZE
    first = hub.sent_bytes()
    fault.times = -1
    hub.log.clear()
    check(store, fetch(store, hub), weights)
    assert first + hub.sent_bytes() <= len(weights) + 4096
    assert first > 0


@pytest.mark.usefixtures("even_segments")
@pytest.mark.parametrize("at", [5, 20_000_000, SIZE])
def test_a_wrong_byte_costs_the_pieces_up_to_it(
    store: Store, hub: FakeHub, repo: Path, weights: bytes, at: int
) -> None:
    """Only the digest of the whole is known: pieces come again until it is right, no further."""
    hub.fault("corrupt", path=PATH, side="cdn", times=1, skip=at // (16 << 20), bytes=at)
    check(store, fetch(store, hub, Limits(connections=1)), weights)
    again = hub.sent_bytes() - len(weights)
    assert 0 < again <= at // PIECE_BYTES * PIECE_BYTES + PIECE_BYTES


@pytest.mark.usefixtures("even_segments")
def test_bytes_of_another_range_are_refused_before_they_come(
    store: Store, hub: FakeHub, repo: Path, weights: bytes
) -> None:
    """Their header tells: no more comes again than that one request."""
    hub.fault("badrange", path=PATH, side="cdn", skip=2)
    check(store, fetch(store, hub, Limits(connections=1)), weights)
    assert hub.sent_bytes() - len(weights) <= work.SEGMENT_BYTES


@pytest.mark.usefixtures("even_segments")
def test_wrong_bytes_of_a_disturbed_request_are_looked_for_there(
    store: Store, hub: FakeHub, repo: Path, weights: bytes
) -> None:
    """What came over a connection that broke comes again first."""
    broken = {"path": PATH, "side": "cdn", "skip": 2}
    hub.fault("corrupt", bytes=35_000_000, **broken)
    hub.fault("drop", bytes=6_000_000, **broken)
    check(store, fetch(store, hub, Limits(connections=1)), weights)
    assert 0 < hub.sent_bytes() - len(weights) <= 2 * PIECE_BYTES


@pytest.mark.usefixtures("even_segments")
def test_wrong_bytes_in_several_places_are_all_found(
    store: Store, hub: FakeHub, repo: Path, weights: bytes
) -> None:
    """Neighbours, and others far away; also when connections break meanwhile."""
    for at in (5, 1_000_000, 5_000_000):
        hub.fault("corrupt", path=PATH, side="cdn", bytes=at)
    hub.fault("corrupt", path=PATH, side="cdn", bytes=30_000_000, skip=1)
    hub.fault("drop", path=PATH, side="cdn", bytes=1_000_000, skip=5, times=2)
    check(store, fetch(store, hub, Limits(connections=1)), weights)
    assert hub.sent_bytes() - len(weights) <= 30_000_000 + 2 * PIECE_BYTES


def test_wrong_bytes_are_never_kept(store: Store, hub: FakeHub, repo: Path) -> None:
    """The file is named; nothing is visible, nothing is left."""
    hub.fault("corrupt", path=PATH, side="cdn", times=0, bytes=5)
    with pytest.raises(WrongDigest, match=r"org/tiny/model\.gguf is not what its source says"):
        fetch(store, hub)
    assert all(blob.size_bytes < SIZE for blob in store.blobs.list())
    assert list(store.layout.partial.iterdir()) == []


def test_small_files_are_checked_too(store: Store, hub: FakeHub, repo: Path) -> None:
    """By the id that git gave them."""
    hub.fault("corrupt", path="org/tiny/config.json", times=1, bytes=2)
    assert fetch(store, hub)["config.json"].path.read_bytes() == b'{"a": 1}'
    hub.fault("corrupt", path="org/tiny/model.json", times=0, bytes=2)
    (repo / "model.json").write_bytes(b'{"b": 2}')
    with pytest.raises(WrongDigest, match=r"model\.json"):
        fetch(store, hub)
