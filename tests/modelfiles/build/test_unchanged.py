"""A pull of what is here already: what the hub is asked, and when that is enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from qm.modelfiles.build.pull import pull
from qm.store.gc import collect
from qm.store.pull.freshness import is_current
from qm.store.pull.reference import parse_reference
from qm.store.store import Store, open_store

from tests.fakehub import FakeHub
from tests.modelfiles.build.tiny_llama import write_tiny_llama

REFERENCE = parse_reference("hf.co/org/tiny")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    repo = tmp_path / "repos/org/tiny"
    repo.mkdir(parents=True)
    write_tiny_llama(repo / "tiny-F16.gguf")
    (repo / "params").write_text('{"temperature": 0.5}')
    with FakeHub(tmp_path / "repos") as hub:
        yield hub


@pytest.fixture
def repo(hub: FakeHub) -> Path:
    return hub.repos.root / "org/tiny"


@pytest.fixture
def store(tmp_path: Path, hub: FakeHub) -> Store:
    """With the model as it is at first; the hub has forgotten what it was asked."""
    store = open_store(tmp_path / "store")
    pull(store, REFERENCE, lambda _step: None, endpoint=hub.url)
    hub.log.clear()
    return store


def test_the_same_commit_costs_one_question(store: Store, hub: FakeHub) -> None:
    """Whatever else the repository has."""
    assert is_current(store, REFERENCE, hub.url)
    assert len(hub.log) == 1


def test_a_commit_that_changed_other_files_costs_one_more(
    store: Store, hub: FakeHub, repo: Path
) -> None:
    """The model is the same: its weights, its template, its parameters."""
    (repo / "README.md").write_text("# Now with words")
    (repo / "tiny-Q8_0.gguf").write_bytes(b"GGUF another size")  # which nobody asked for
    reference = parse_reference("hf.co/org/tiny")
    assert not is_current(store, reference, hub.url), "it is preferred over the one that is here"
    (repo / "tiny-Q8_0.gguf").unlink()
    hub.log.clear()
    assert is_current(store, REFERENCE, hub.url)
    assert len(hub.log) == 2
    assert hub.sent_bytes() == 0


@pytest.mark.parametrize("changed", ["params", "template", "tiny-F16.gguf"])
def test_a_commit_that_changed_the_model_is_noticed(
    store: Store, hub: FakeHub, repo: Path, changed: str
) -> None:
    """Each file that was taken counts, and each that would be taken now."""
    (repo / changed).write_bytes(b"{}")
    assert not is_current(store, REFERENCE, hub.url)


def test_a_model_that_lacks_a_blob_is_not_here(store: Store, hub: FakeHub) -> None:
    """Whatever its manifest says."""
    manifest = store.manifests.read(REFERENCE.name).manifest
    store.layout.blob(manifest.layers[0].digest).unlink()
    assert not is_current(store, REFERENCE, hub.url)
    assert hub.log == []


def test_a_hub_that_says_nothing_of_use_leaves_it_open(store: Store, hub: FakeHub) -> None:
    """Then the long way finds out, and tells why."""
    hub.fault("status", side="hub", status=503, times=0)
    assert not is_current(store, REFERENCE, hub.url)


def test_a_pull_leaves_nothing_that_no_model_needs(store: Store) -> None:
    """The texts that layers were made of are garbage at once."""
    assert collect(store).kept == ()
    needed = set(store.manifests.read(REFERENCE.name).manifest.blobs())
    assert {blob.digest for blob in store.blobs.list()} == needed
