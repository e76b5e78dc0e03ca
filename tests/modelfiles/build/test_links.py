"""Blobs under other names, for as long as a tool needs them, and never outside their directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qm.modelfiles.build.links import BadFileName, linked

if TYPE_CHECKING:
    from qm.store.store import Store


def test_files_have_their_names_inside_only(store: Store) -> None:
    """The directory is gone afterwards, the blobs stay."""
    path = store.blobs.path(store.blobs.put(b"{}"))
    with linked(store.layout, {"config.json": path}) as directory:
        assert (directory / "config.json").read_bytes() == b"{}"
    assert list(store.layout.partial.iterdir()) == []
    assert path.exists()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".", "..", ".hidden", "a\nb"])
def test_names_from_afar_make_no_paths(store: Store, name: str) -> None:
    """A request's file names are only names."""
    path = store.blobs.path(store.blobs.put(b"x"))
    with pytest.raises(BadFileName), linked(store.layout, {name: path}):
        pass
    assert list(store.layout.partial.iterdir()) == []
