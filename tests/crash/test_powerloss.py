"""kill -9 can't find a missing fsync, because the kernel still writes: so the disk is modelled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.leases import hold
from qm.store.name import Name
from qm.store.store import Store, open_store
from qm.store.writer import BlobWriter

from tests.crash.disk import violation
from tests.crash.recording import recorded

OLD, NEW = b"GGUF old weights", b"GGUF new weights"


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
    with recorded(store.layout.root) as recording:
        publish_new(store, name, get_weights(store, source))
    assert len(recording.aftermaths) > 40
    assert {violation(store.layout, files) for files in recording.aftermaths} == {None}
    path = store.layout.manifest(Name.parse(name))
    assert recording.disk.pessimistic()[path] == path.read_bytes()


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
    with recorded(store.layout.root, ignoring=ignored) as recording:
        publish_new(store, "m", put(store, source))
    found = {violation(store.layout, files) for files in recording.aftermaths} - {None}
    assert found
    assert all(str(reason).startswith(broken) for reason in found)


def test_the_manifests_directory_is_synced(store: Store, source: Path) -> None:
    """Without it the model would be gone after it was reported done."""
    with recorded(store.layout.root, ignoring=lambda path: path.name == "other") as recording:
        publish_new(store, "hf.co/org/other", put(store, source))
    assert store.layout.manifest(Name.parse("hf.co/org/other")) not in recording.disk.pessimistic()


def test_a_deleted_model_stays_deleted(store: Store) -> None:
    """The directory is fsynced after the name went."""
    with recorded(store.layout.root) as recording:
        store.manifests.delete(Name.parse("m"))
    assert store.layout.manifest(Name.parse("m")) not in recording.disk.pessimistic()
    assert {violation(store.layout, files) for files in recording.aftermaths} == {None}
