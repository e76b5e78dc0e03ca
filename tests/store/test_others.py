"""Stores that are only read: a shared model disk beside one's own store."""

from __future__ import annotations

from pathlib import Path

import pytest
from qm.store.gc import collect
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.manifests import ModelNotFound, ModelReadOnly
from qm.store.name import Name
from qm.store.store import Store, open_store

NAME = Name.parse("shared")


def add_model(store: Store, name: str, data: bytes) -> Manifest:
    config = Descriptor(CONFIG_TYPE, store.blobs.put(b"{}"), 2)
    layer = Descriptor(MODEL_TYPE, store.blobs.put(data), len(data))
    return store.manifests.write(Name.parse(name), Manifest(config, (layer,))).manifest


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A store of somebody else with one model."""
    path = tmp_path / "disk"
    add_model(open_store(path), "Shared", b"weights")
    return path


@pytest.fixture
def both(tmp_path: Path, disk: Path) -> Store:
    return open_store(tmp_path / "own", [disk])


def names(store: Store) -> list[str]:
    return [str(entry.name) for entry in store.manifests.list()[0]]


def state(path: Path) -> dict[Path, tuple[int, int]]:
    found = [each for each in path.rglob("*") if each.is_file()]
    return {each: (each.stat().st_mtime_ns, each.stat().st_ino) for each in found}


def test_its_models_are_ours_to_use(both: Store, disk: Path) -> None:
    """Listed, found in any case, read, and copied under a name of ours, without their bytes."""
    before = state(disk)
    add_model(both, "own", b"mine")
    assert names(both) == ["own:latest", "Shared:latest"]
    manifest = both.manifests.read(NAME).manifest
    path = both.blobs.path(manifest.layers[0].digest)
    assert (path.read_bytes(), path.is_relative_to(disk)) == (b"weights", True)
    both.blobs.verify(manifest.layers[0].digest)
    assert both.manifests.copy(NAME, Name.parse("copy")).manifest == manifest
    collect(both)
    assert both.blobs.has(manifest.layers[0].digest)
    assert state(disk) == before


def test_they_are_not_ours_to_remove(both: Store, disk: Path) -> None:
    """The error says whose they are; a name of ours goes before theirs."""
    with pytest.raises(ModelReadOnly, match="disk"):
        both.manifests.delete(NAME)
    own = add_model(both, "shared", b"other")
    assert both.manifests.read(NAME).manifest == own
    assert names(both) == ["shared:latest"]
    assert both.manifests.delete(NAME) is not None
    assert names(both) == ["Shared:latest"]


def test_an_unplugged_disk_takes_only_its_models_away(both: Store, disk: Path) -> None:
    """The rest of the store goes on, and they are back when it is."""
    add_model(both, "own", b"mine")
    away = disk.rename(disk.with_name("away"))
    assert names(both) == ["own:latest"]
    with pytest.raises(ModelNotFound) as caught:
        both.manifests.read(NAME)
    assert caught.value.hint.startswith(f"{disk} of QM_STORES can't be read")
    away.rename(disk)
    assert names(both) == ["own:latest", "Shared:latest"]


def test_a_damaged_manifest_elsewhere_stops_no_collection(both: Store, disk: Path) -> None:
    """It is no business of ours."""
    (disk / "manifests/registry.ollama.ai/library/Shared/latest").write_bytes(b"{")
    assert names(both) == []
    assert collect(both).deleted == ()


def test_they_are_remembered(both: Store, tmp_path: Path) -> None:
    """Jobs open the same stores as the daemon that started them."""
    assert names(open_store(tmp_path / "own")) == ["Shared:latest"]
    assert names(open_store(tmp_path / "own", [])) == []
    assert names(open_store(tmp_path / "own")) == []
