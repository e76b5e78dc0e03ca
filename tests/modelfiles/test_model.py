"""From a stored manifest to a model that can be loaded or listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from qm.modelfiles import model as module
from qm.modelfiles.build.create import create
from qm.modelfiles.config import ConfigInvalid
from qm.modelfiles.create_request import from_create_request
from qm.modelfiles.model import MAX_TEXT_BYTES, ModelBroken, load_model, summarize
from qm.modelfiles.spec import Turn
from qm.store.blobs import BlobChanged, BlobMissing
from qm.store.image import (
    CONFIG_TYPE,
    MESSAGES_TYPE,
    MODEL_TYPE,
    PARAMS_TYPE,
    SYSTEM_TYPE,
    TEMPLATE_TYPE,
    Descriptor,
    Manifest,
)
from qm.store.manifests import ModelNotFound, StoredManifest
from qm.store.name import Name

if TYPE_CHECKING:
    from pathlib import Path

    from qm.store.gguf import Header
    from qm.store.store import Store

NAME = Name.parse("a")


def put(
    store: Store, *layers: tuple[str, bytes], config: bytes = b'{"os":"linux"}'
) -> StoredManifest:
    """A model as another tool may have written it."""
    descriptors = [Descriptor(kind, store.blobs.put(data), len(data)) for kind, data in layers]
    manifest = Manifest(
        Descriptor(CONFIG_TYPE, store.blobs.put(config), len(config)), tuple(descriptors)
    )
    return store.manifests.write(NAME, manifest)


def gguf_bytes(store: Store, digest: str) -> bytes:
    return store.blobs.path(digest).read_bytes()


def test_an_unknown_model_says_how_to_get_it(store: Store) -> None:
    """The commonest mistake."""
    with pytest.raises(ModelNotFound, match="model 'a' not found"):
        load_model(store, NAME)


def test_a_name_is_found_in_any_case(store: Store, make_gguf: Callable[..., str]) -> None:
    """And answered in the case that it was created in."""
    body = {"files": {"a": make_gguf()}}
    create(store, Name.parse("Smol"), from_create_request(body), lambda _: None)
    assert str(load_model(store, Name.parse("sMOL")).name) == "Smol:latest"


def test_a_listing_says_the_same_as_the_model_itself(
    store: Store, make_gguf: Callable[..., str]
) -> None:
    """Though it reads the config alone."""
    body = {"files": {"a": make_gguf(llama__context_length=512)}, "template": "{{ .Tools }}"}
    create(store, NAME, from_create_request(body), lambda _: None)
    model, summary = load_model(store, NAME), summarize(store, store.manifests.read(NAME))
    assert summary.details == model.details
    assert summary.details.context_length == 512
    assert summary.capabilities == model.capabilities == ("completion", "tools")
    assert summary.size_bytes == model.size_bytes
    assert summary.digest == model.digest


def test_a_listing_opens_no_weights(
    store: Store, make_gguf: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of our models nor of another tool's."""
    digest = make_gguf()
    put(store, (MODEL_TYPE, gguf_bytes(store, digest)), (TEMPLATE_TYPE, b"{{ .Suffix }}"))
    create(store, Name.parse("b"), from_create_request({"from": "a"}), lambda _: None)

    def refuse(path: Path) -> Header:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(module, "read_header", refuse)
    found = [summarize(store, stored) for stored in store.manifests.list()[0]]
    assert [each.capabilities for each in found] == [("completion", "insert")] * 2


def test_a_header_is_read_once(
    store: Store, make_gguf: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request loads its model's description; large vocabularies take time to skip."""
    body = {"files": {"a": make_gguf(llama__context_length=513)}}
    create(store, NAME, from_create_request(body), lambda _: None)
    first = load_model(store, NAME)
    monkeypatch.setattr(module, "read_header", None)
    assert load_model(store, NAME).header is first.header


def test_a_missing_blob_is_named(store: Store, make_gguf: Callable[..., str]) -> None:
    """Somebody deleted it by hand."""
    digest = make_gguf()
    create(store, NAME, from_create_request({"files": {"a": digest}}), lambda _: None)
    store.blobs.path(digest).unlink()
    with pytest.raises(BlobMissing, match=digest):
        load_model(store, NAME)


def test_a_file_that_changed_after_its_adoption_is_refused(store: Store, tiny_gguf: Path) -> None:
    """Also when its header was read before."""
    adoption = store.blobs.adopt(tiny_gguf)
    create(store, NAME, from_create_request({"files": {"a": adoption.digest}}), lambda _: None)
    load_model(store, NAME)
    assert adoption.how == "link", "this test needs hard links, and no reflinks"
    with tiny_gguf.open("ab") as file:
        file.write(b"x")
    with pytest.raises(BlobChanged):
        load_model(store, NAME)


@pytest.mark.parametrize(
    ("media_type", "data", "words"),
    [
        (PARAMS_TYPE, b"{", "is no JSON"),
        (PARAMS_TYPE, b"[]", "its parameters are no JSON object"),
        (MESSAGES_TYPE, b"{}", "its messages are no JSON array"),
        (MESSAGES_TYPE, b"[" * 100_000, "is no JSON"),
        (SYSTEM_TYPE, b"x" * (MAX_TEXT_BYTES + 1), "is longer than"),
    ],
)
def test_a_broken_layer_is_named(
    store: Store, make_gguf: Callable[..., str], media_type: str, data: bytes, words: str
) -> None:
    """Strangers write manifests and their layers."""
    put(store, (MODEL_TYPE, gguf_bytes(store, make_gguf())), (media_type, data))
    with pytest.raises(ModelBroken, match="model 'a' is broken") as caught:
        load_model(store, NAME)
    assert words in str(caught.value)


def test_a_model_without_weights_or_with_a_broken_config(
    store: Store, make_gguf: Callable[..., str]
) -> None:
    """Typed errors for both."""
    put(store, (SYSTEM_TYPE, b"s"))
    with pytest.raises(ModelBroken, match="has no weights"):
        load_model(store, NAME)
    put(store, (MODEL_TYPE, gguf_bytes(store, make_gguf())), config=b"[1]")
    with pytest.raises(ConfigInvalid):
        load_model(store, NAME)


def test_odd_texts_of_another_tool_are_taken_as_they_are(
    store: Store, make_gguf: Callable[..., str]
) -> None:
    """Invalid UTF-8 is replaced, unknown roles stay, what is no message is left out."""
    messages = json.dumps([{"role": "wizard"}, 5, {"role": "user", "content": "hi"}]).encode()
    put(
        store,
        (MODEL_TYPE, gguf_bytes(store, make_gguf())),
        (SYSTEM_TYPE, b"a\xff"),
        (MESSAGES_TYPE, messages),
        (PARAMS_TYPE, b'{"temperature": "hot"}'),
    )
    model = load_model(store, NAME)
    assert model.system == "a\ufffd"
    assert model.messages == (Turn("wizard", ""), Turn("user", "hi"))
    assert model.parameters == {"temperature": "hot"}
