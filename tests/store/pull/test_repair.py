"""`qm verify --repair`: damaged blobs become sound, by fetching what is wrong in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from qm.store.image import CONFIG_TYPE, Descriptor, Manifest
from qm.store.leases import hold
from qm.store.name import Name
from qm.store.pull import work
from qm.store.pull.fetch import RepoFetch
from qm.store.pull.front import STEP_BYTES
from qm.store.pull.hub import list_repo
from qm.store.pull.oci import pull_image
from qm.store.pull.origin import OriginUnreadable
from qm.store.pull.push import push_image
from qm.store.pull.registry import Endpoint
from qm.store.pull.repair import NoSource, repair
from qm.store.store import Store, open_store

from tests.fakehub import FakeHub
from tests.registry import Registry, running_registry

SIZE = 3 * STEP_BYTES + 12345


@pytest.fixture(scope="module")
def weights() -> bytes:
    return b"GGUF" + os.urandom(SIZE - 4)


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "backoff_s", lambda _failures, _chance: 0.01)


@pytest.fixture
def digest(store: Store, hub: FakeHub, weights: bytes) -> str:
    """A blob that was downloaded from the hub; what was sent before is forgotten."""
    folder = hub.repos.root / "org/tiny"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(weights)
    listing = list_repo("org/tiny", endpoint=hub.url)
    with hold(store.layout) as lease:
        fetched = RepoFetch(store, lease, listing, lambda _step: None).fetch(listing.files)
    hub.log.clear()
    return fetched["model.gguf"].digest


def damage(store: Store, digest: str, *offsets: int) -> None:
    path = store.layout.blob(digest)
    path.chmod(0o644)
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))


def ignore(_: int) -> None:
    """Nobody looks at the progress."""


@pytest.mark.parametrize("offset", [0, STEP_BYTES + 5, 2 * STEP_BYTES - 1, SIZE - 1])
def test_a_flipped_bit_costs_one_step(store: Store, hub: FakeHub, digest: str, offset: int) -> None:
    """One bit per region: nothing but the step that holds it is fetched."""
    damage(store, digest, offset)
    repair(store, digest, ignore)
    store.blobs.verify(digest)
    assert 0 < hub.sent_bytes() <= STEP_BYTES
    assert list(store.layout.partial.iterdir()) == []
    assert store.layout.claim(digest).stat().st_size == 1  # the one of the download itself


def test_several_bits_cost_their_steps(store: Store, hub: FakeHub, digest: str) -> None:
    """And the sound step between them nothing."""
    damage(store, digest, 10, 2 * STEP_BYTES + 10)
    repair(store, digest, ignore)
    store.blobs.verify(digest)
    assert hub.sent_bytes() <= 2 * STEP_BYTES


def test_a_cut_or_missing_blob_comes_back(store: Store, hub: FakeHub, digest: str) -> None:
    """What is left of it is used."""
    path = store.layout.blob(digest)
    path.chmod(0o644)
    os.truncate(path, 2 * STEP_BYTES + 100)
    repair(store, digest, ignore)
    store.blobs.verify(digest)
    assert hub.sent_bytes() < 2 * STEP_BYTES
    path.unlink()
    repair(store, digest, ignore)
    store.blobs.verify(digest)


def test_an_interrupted_repair_goes_on(store: Store, hub: FakeHub, digest: str) -> None:
    """Killed after the bad file was taken out, the next one has its bytes still."""
    damage(store, digest, STEP_BYTES + 5)

    class Interrupted(Exception):
        pass

    def interrupt(_: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        repair(store, digest, interrupt)
    assert not store.blobs.has(digest)
    hub.log.clear()
    repair(store, digest, ignore)
    store.blobs.verify(digest)
    assert hub.sent_bytes() <= STEP_BYTES


def test_what_was_not_downloaded_can_not_be_repaired(store: Store) -> None:
    """It says what to do instead; a damaged record is an error, too."""
    digest = store.blobs.put(b"made here")
    with pytest.raises(NoSource, match="pull or build"):
        repair(store, digest, ignore)
    store.layout.origin(digest).write_text("{")
    with pytest.raises(OriginUnreadable):
        repair(store, digest, ignore)
    assert store.blobs.has(digest)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


def test_an_image_is_repaired_from_its_registry(
    store: Store, tmp_path: Path, registry: Registry
) -> None:
    """The registry and repository that it came from were noted."""
    data = os.urandom(100_000)
    other = open_store(tmp_path / "other")
    config = Descriptor(CONFIG_TYPE, other.blobs.put(b"{}"), 2)
    layer = Descriptor("x/y", other.blobs.put(data), len(data))
    name = Name.parse(f"{registry.host}/lib/tiny:v1")
    other.manifests.write(name, Manifest(config, (layer,)))
    endpoint = Endpoint(registry.url, trusted=True)
    push_image(other, endpoint, name, name, lambda _: None)
    pull_image(store, endpoint, name, lambda _: None)
    damage(store, layer.digest, 50_000)
    repair(store, layer.digest, ignore)
    assert hashlib.sha256(store.blobs.path(layer.digest).read_bytes()).hexdigest() in layer.digest
