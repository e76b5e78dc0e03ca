from __future__ import annotations

import json
import os
import threading
from hashlib import sha256
from pathlib import Path

import pytest
from qm.store.blobs import BlobMissing
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest, ManifestInvalid
from qm.store.manifests import ManifestUnreadable, ModelNotFound
from qm.store.name import Name
from qm.store.store import Store


def parse(text: str) -> Name:
    return Name.parse(text)


def manifest_of(store: Store, *layers: bytes) -> Manifest:
    """A manifest whose blobs are all in the store."""
    config = Descriptor(CONFIG_TYPE, store.blobs.put(b"{}"), 2)
    put = (Descriptor(MODEL_TYPE, store.blobs.put(data), len(data)) for data in layers)
    return Manifest(config, tuple(put))


def test_a_written_model_reads_back(store: Store) -> None:
    """Name, manifest, digest of its bytes, time."""
    manifest = manifest_of(store, b"weights")
    written = store.manifests.write(parse("me/smol:7b"), manifest)
    read = store.manifests.read(parse("me/smol:7b"))
    assert read == written
    assert read.manifest == manifest
    assert read.digest == manifest.digest


def test_a_registrys_bytes_are_kept(store: Store) -> None:
    """The digest stays the remote's, whatever its spacing."""
    manifest = manifest_of(store, b"weights")
    data = json.dumps(json.loads(manifest.to_json()), indent=4).encode()
    stored = store.manifests.write(parse("a"), manifest, data=data)
    assert stored.digest == f"sha256:{sha256(data).hexdigest()}" != manifest.digest
    assert store.manifests.copy(parse("a"), parse("b")).digest == stored.digest


def test_an_unknown_model_says_how_to_get_it(store: Store) -> None:
    """404 and the command."""
    for act in (store.manifests.read, store.manifests.delete):
        with pytest.raises(ModelNotFound) as caught:
            act(parse("llama9"))
        assert caught.value.status == 404
        assert caught.value.message == "model 'llama9' not found"
        assert caught.value.hint == "try: qm pull llama9"


def test_names_are_found_in_any_case(store: Store) -> None:
    """One model, however it is written; it keeps the case it came in."""
    store.manifests.write(parse("hf.co/Org/Repo-GGUF:Q4_K_M"), manifest_of(store, b"1"))
    second = store.manifests.write(parse("HF.co/org/repo-gguf:q4_k_m"), manifest_of(store, b"2"))
    assert str(second.name) == "hf.co/Org/Repo-GGUF:Q4_K_M"
    assert len(store.manifests.list()[0]) == 1
    store.manifests.delete(parse("hf.CO/ORG/REPO-GGUF:Q4_K_M"))
    assert store.manifests.list() == ([], [])


def test_a_model_needs_all_of_its_blobs(store: Store) -> None:
    """Promise 2: a manifest that names a missing blob, or a wrong size, is not written."""
    manifest = manifest_of(store, b"weights")
    missing = Descriptor(MODEL_TYPE, f"sha256:{'0' * 64}", 7)
    wrong_size = Descriptor(MODEL_TYPE, manifest.layers[0].digest, 8)
    for layer in (missing, wrong_size):
        with pytest.raises(BlobMissing, match=layer.digest):
            store.manifests.write(parse("a"), Manifest(manifest.config, (layer,)))
    assert store.manifests.list() == ([], [])


def test_delete_leaves_no_empty_directories(store: Store) -> None:
    """And no other model goes with it."""
    manifest = manifest_of(store, b"weights")
    store.manifests.write(parse("hf.co/org/a"), manifest)
    store.manifests.write(parse("hf.co/org/b"), manifest)
    removed = store.manifests.delete(parse("hf.co/org/a"))
    assert removed is not None
    assert removed.manifest == manifest
    store.manifests.read(parse("hf.co/org/b"))
    store.manifests.delete(parse("hf.co/org/b"))
    assert list(store.layout.manifests.iterdir()) == []


def test_copy_makes_a_second_name(store: Store) -> None:
    """Same manifest, no blob touched; an unknown source is a 404."""
    store.manifests.write(parse("a"), manifest_of(store, b"weights"))
    copied = store.manifests.copy(parse("a"), parse("me/b:1"))
    assert copied.manifest == store.manifests.read(parse("a")).manifest
    with pytest.raises(ModelNotFound):
        store.manifests.copy(parse("nope"), parse("c"))


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"\0" * 400])
def test_a_damaged_manifest_is_listed_as_unreadable(store: Store, data: bytes) -> None:
    """It hides no other model."""
    store.manifests.write(parse("a"), manifest_of(store, b"weights"))
    store.manifests.write(parse("b"), manifest_of(store, b"weights"))
    store.layout.manifest(parse("a")).write_bytes(data)
    stored, unreadable = store.manifests.list()
    assert [str(entry.name) for entry in stored] == ["b:latest"]
    assert [entry.path for entry in unreadable] == [store.layout.manifest(parse("a"))]
    with pytest.raises(ManifestInvalid):
        store.manifests.read(parse("a"))


def test_a_damaged_manifest_can_be_deleted_and_replaced(store: Store) -> None:
    """Otherwise garbage collection would be refused for ever."""
    store.manifests.write(parse("a"), manifest_of(store, b"weights"))
    store.manifests.write(parse("b"), manifest_of(store, b"weights"))
    for name in ("a", "b"):
        store.layout.manifest(parse(name)).write_bytes(b"{")
    store.manifests.write(parse("a"), manifest_of(store, b"new"))
    store.manifests.delete(parse("b"))
    stored, unreadable = store.manifests.list()
    assert [str(entry.name) for entry in stored] == ["a:latest"]
    assert unreadable == []


def test_what_does_not_belong_is_unreadable(store: Store, tmp_path: Path) -> None:
    """Files in wrong places, links, pipes: told, never followed; hidden files are not ours."""
    root = store.layout.manifests
    (root / "stray").write_text("x")
    (root / ".DS_Store").write_text("x")
    directory = root / "registry.ollama.ai" / "library" / "m"
    directory.mkdir(parents=True)
    (directory / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(directory / "pipe")
    stored, unreadable = store.manifests.list()
    assert stored == []
    assert {entry.path.name for entry in unreadable} == {"stray", "link", "pipe"}
    with pytest.raises((ManifestUnreadable, ManifestInvalid, ModelNotFound)):
        store.manifests.read(parse("m:pipe"))


def test_list_is_sorted_by_name(store: Store) -> None:
    """In any case."""
    manifest = manifest_of(store, b"weights")
    for name in ("b", "A", "c"):
        store.manifests.write(parse(name), manifest)
    assert [entry.name.short for entry in store.manifests.list()[0]] == ["A", "b", "c"]


def test_writers_and_deleters_do_not_disturb_each_other(store: Store) -> None:
    """Directories appear and go while others write into them; nobody sees an error."""
    manifest = manifest_of(store, b"weights")
    errors: list[Exception] = []

    def churn(name: str) -> None:
        try:
            for _ in range(30):
                store.manifests.write(parse(name), manifest)
                store.manifests.delete(parse(name))
        except Exception as error:  # noqa: BLE001  a thread's error must reach the test
            errors.append(error)

    threads = [threading.Thread(target=churn, args=(f"hf.co/org/m{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert store.manifests.list() == ([], [])
