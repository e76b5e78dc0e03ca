from __future__ import annotations

from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.name import Name
from qm.store.store import Store
from qm.store.usage import ModelUse, usage
from qm.store.verify import verify_store


def add_model(store: Store, name: str, *layers: bytes) -> Manifest:
    config = Descriptor(CONFIG_TYPE, store.blobs.put(name.encode()), len(name))
    put = (Descriptor(MODEL_TYPE, store.blobs.put(data), len(data)) for data in layers)
    return store.manifests.write(Name.parse(name), Manifest(config, tuple(put))).manifest


def damage(store: Store, digest: str) -> None:
    path = store.layout.blob(digest)
    path.chmod(0o644)
    path.write_bytes(b"damaged")


def test_every_byte_is_somebodys(store: Store) -> None:
    """Own, shared, orphaned and unfinished bytes, with the models that need them."""
    add_model(store, "a", b"shared!", b"own")
    add_model(store, "bb", b"shared!")
    orphan = store.blobs.put(b"orphan")
    with store.blobs.writer() as writer:
        writer.write(bytes(10_000))
        used = usage(store)
    assert used.models == (ModelUse("a:latest", 3 + 1, 7), ModelUse("bb:latest", 2, 7))
    assert [blob.digest for blob in used.orphans] == [orphan]
    assert (used.total_bytes, used.orphan_bytes) == (7 + 3 + 1 + 2 + 6, 6)
    assert used.partial_bytes >= 10_000
    assert 0 < used.disk_free_bytes < used.disk_total_bytes
    shared = [blob for blob in used.blobs if blob.is_shared]
    assert [blob.models for blob in shared] == [("a:latest", "bb:latest")]


def test_an_empty_store_uses_nothing(store: Store) -> None:
    """And says so without error."""
    used = usage(store)
    assert (used.blobs, used.models, used.total_bytes) == ((), (), 0)


def test_verify_names_the_bad_blob_and_its_models(store: Store) -> None:
    """Damaged and missing blobs, with everybody who needs them; sound ones are only counted."""
    manifest = add_model(store, "a", b"damaged soon", b"gone soon")
    add_model(store, "bb", b"damaged soon")
    first, second = (layer.digest for layer in manifest.layers)
    assert verify_store(store).bad == ()
    damage(store, first)
    store.layout.blob(second).unlink()
    seen: list[tuple[int, int]] = []
    verified = verify_store(store, on_progress=lambda *step: seen.append(step))
    assert verified.checked == 4
    assert {(bad.digest, bad.models) for bad in verified.bad} == {
        (first, ("a:latest", "bb:latest")),
        (second, ("a:latest",)),
    }
    assert seen[-1][0] <= seen[-1][1]


def test_verify_reads_what_no_model_names(store: Store) -> None:
    """A damaged orphan would be reused one day."""
    orphan = store.blobs.put(b"orphan")
    damage(store, orphan)
    assert [bad.digest for bad in verify_store(store).bad] == [orphan]


def test_verify_one_model_reads_no_other(store: Store) -> None:
    """Only its own blobs, with progress over them all."""
    add_model(store, "a", b"sound")
    bad = add_model(store, "bb", b"damaged soon")
    damage(store, bad.layers[0].digest)
    seen: list[tuple[int, int]] = []
    verified = verify_store(store, Name.parse("a"), on_progress=lambda *step: seen.append(step))
    assert (verified.checked, verified.bad) == (2, ())
    assert seen[-1] == (6, 6)


def test_verify_tells_of_unreadable_manifests(store: Store) -> None:
    """What can't be read can't be verified."""
    add_model(store, "a", b"x")
    store.layout.manifest(Name.parse("a")).write_bytes(b"{")
    assert len(verify_store(store).unreadable) == 1
