"""A model is read once, and anew as soon as one of its files has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from qm.modelfiles import models as module
from qm.modelfiles.build.create import create
from qm.modelfiles.create_request import from_create_request
from qm.modelfiles.models import Models
from qm.store.blobs import BlobChanged, BlobMissing
from qm.store.manifests import ModelNotFound
from qm.store.name import Name

if TYPE_CHECKING:
    from pathlib import Path

    from qm.store.store import Store

NAME = Name.parse("a")


def make(store: Store, digest: str, **more: object) -> None:
    body = {"files": {"a": digest}, **more}
    create(store, NAME, from_create_request(body), lambda _: None)


async def test_what_has_not_changed_is_not_read_again(
    store: Store, make_gguf: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request asks for its model."""
    make(store, make_gguf())
    models = Models(store)
    first = await models.model(NAME)
    monkeypatch.setattr(module, "load_model", None)
    assert await models.model(NAME) is first


async def test_a_model_that_is_made_anew_is_read_anew(
    store: Store, make_gguf: Callable[..., str]
) -> None:
    """And one that is gone is not found."""
    digest, models = make_gguf(), Models(store)
    make(store, digest)
    assert (await models.model(NAME)).system == ""
    make(store, digest, system="Be brief.")
    assert (await models.model(NAME)).system == "Be brief."
    store.manifests.delete(NAME)
    with pytest.raises(ModelNotFound):
        await models.model(NAME)


async def test_a_missing_blob_is_noticed(store: Store, make_gguf: Callable[..., str]) -> None:
    digest, models = make_gguf(), Models(store)
    make(store, digest)
    await models.model(NAME)
    store.blobs.path(digest).unlink()
    with pytest.raises(BlobMissing, match=digest):
        await models.model(NAME)


async def test_a_file_that_changed_after_its_adoption_is_refused(
    store: Store, tiny_gguf: Path
) -> None:
    """Although the model was read before."""
    adoption, models = store.blobs.adopt(tiny_gguf), Models(store)
    make(store, adoption.digest)
    await models.model(NAME)
    assert adoption.how == "link", "this test needs hard links, and no reflinks"
    with tiny_gguf.open("ab") as file:
        file.write(b"x")
    with pytest.raises(BlobChanged):
        await models.model(NAME)
