"""A manifest that could not be read back is never written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qm.store.image import CONFIG_TYPE, SYSTEM_TYPE, Descriptor, Manifest, ManifestInvalid
from qm.store.name import Name
from qm.store.store import open_store

if TYPE_CHECKING:
    from pathlib import Path


def test_what_nobody_could_read_is_not_published(tmp_path: Path) -> None:
    """One unreadable manifest would keep garbage collection from ever running."""
    store = open_store(tmp_path / "store")
    digest = store.blobs.put(b"{}")
    manifest = Manifest(Descriptor(CONFIG_TYPE, digest, 2), (Descriptor(SYSTEM_TYPE, digest, 2),))
    with pytest.raises(ManifestInvalid):
        store.manifests.write(Name.parse("a"), manifest)
    assert store.manifests.list() == ([], [])
