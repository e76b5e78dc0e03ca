"""The listing: each model is looked at once, and again when it changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from qm.daemon import listing as listing_module
from qm.daemon.listing import Listing
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest
from qm.store.name import Name
from qm.store.store import Store, open_store


def add_model(store: Store, name: str, family: str = "llama") -> None:
    data = f'{{"model_family":"{family}","qm":{{"capabilities":["completion"]}}}}'.encode()
    config = Descriptor(CONFIG_TYPE, store.blobs.put(data), len(data))
    layer = Descriptor(MODEL_TYPE, store.blobs.put(b"weights"), 7)
    store.manifests.write(Name.parse(name), Manifest(config, (layer,)))


def families(listing: Listing) -> dict[str, str]:
    return {
        str(each.stored.name): each.summary.details.family if each.summary else each.reason
        for each in listing.newest_first()
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def test_what_did_not_change_is_not_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand models cost a thousand stats."""
    add_model(store, "a")
    add_model(store, "b")
    listing = Listing(store)
    assert families(listing) == {"a:latest": "llama", "b:latest": "llama"}
    monkeypatch.delattr(listing_module, "summarize")
    assert families(listing) == {"a:latest": "llama", "b:latest": "llama"}


def test_changes_show_at_once(store: Store) -> None:
    """A model that was replaced, added or removed, by this process or by another."""
    add_model(store, "a")
    listing = Listing(store)
    families(listing)
    other = open_store(store.layout.root)
    add_model(other, "a", "gemma3")
    add_model(other, "b")
    assert families(listing) == {"a:latest": "gemma3", "b:latest": "llama"}
    other.manifests.delete(Name.parse("a"))
    assert families(listing) == {"b:latest": "llama"}
    assert families(Listing(store)) == families(listing)


def test_a_damaged_model_is_listed_until_it_is_mended(store: Store) -> None:
    """With the reason; its files are looked at again each time."""
    add_model(store, "a")
    config = store.manifests.read(Name.parse("a")).manifest.config.digest
    path = store.layout.blob(config)
    hidden = path.rename(path.with_name("hidden"))
    listing = Listing(store)
    assert "not found" in families(listing)["a:latest"]
    hidden.rename(path)
    assert families(listing) == {"a:latest": "llama"}
