"""To whom a token goes, and what a hub may make us ask for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from qm.store.errors import QmError
from qm.store.leases import hold
from qm.store.pull.addresses import ForbiddenAddress
from qm.store.pull.choose import RepoFile
from qm.store.pull.download import Limits
from qm.store.pull.fetch import RepoFetch
from qm.store.pull.hub import (
    RateLimited,
    RepoGated,
    RepoMissing,
    RevisionMissing,
    TokenRefused,
    list_repo,
)
from qm.store.store import Store

from tests.fakehub import FakeHub


@pytest.fixture
def repo(hub: FakeHub) -> Path:
    """Gated: alice may read it."""
    folder = hub.repos.root / "org/gated"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"GGUF" + bytes(100_000))
    (folder / "config.json").write_bytes(b"{}")
    (folder / ".fakehub.json").write_text('{"gated": "manual", "readers": ["alice"]}')
    return folder


def fetch(store: Store, hub: FakeHub, repo: str = "org/gated") -> None:
    listing = list_repo(repo, endpoint=hub.url)
    with hold(store.layout) as lease:
        limits = Limits(stall_s=1.0, patience=2)
        RepoFetch(store, lease, listing, lambda _step: None, limits).fetch(listing.files)


def test_the_token_goes_to_the_hub_alone(
    store: Store, hub: FakeHub, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage on another host and port gets none, though the hub sends us there."""
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    fetch(store, hub)
    assert {entry["auth"] for entry in hub.log if entry["side"] == "hub"} == {True}
    assert {entry["auth"] for entry in hub.log if entry["side"] == "cdn"} == {False}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FakeHub]:
    """Another server, to which nobody's token belongs."""
    (tmp_path / "other").mkdir()
    with ExitStack() as stack:
        yield stack.enter_context(FakeHub(tmp_path / "other"))


def test_a_redirect_elsewhere_takes_no_token_along(
    store: Store, hub: FakeHub, repo: Path, other: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another port of the same host is another origin."""
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    hub.fault("redirect", path="org/gated/*", times=0, location=f"{other.url}/x")
    with pytest.raises(QmError):
        fetch(store, hub)
    assert other.log
    assert not any(entry["auth"] for entry in other.log)


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "http://10.0.0.1/x"],
)
@pytest.mark.parametrize("side", ["hub", "cdn"])
def test_a_redirect_to_where_we_have_no_business_is_refused(
    store: Store,
    hub: FakeHub,
    repo: Path,
    location: str,
    side: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, and by whichever server it is sent."""
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    hub.fault("redirect", path="org/gated/model.gguf", side=side, times=0, location=location)
    with pytest.raises(ForbiddenAddress):
        fetch(store, hub)


def test_a_gated_repository_says_where_to_accept_its_licence(
    store: Store, hub: FakeHub, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a token, and with one of somebody else."""
    for token in (None, "hf_bob"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(RepoGated, match=f"accept its licence at {hub.url}/org/gated"):
            fetch(store, hub)


def test_what_is_not_there_is_named(
    store: Store, hub: FakeHub, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repository, revision, and a token that nobody has."""
    with pytest.raises(RepoMissing, match="org/none"):
        fetch(store, hub, "org/none")
    with pytest.raises(RevisionMissing, match="'v1'"):
        list_repo("org/gated", "v1", endpoint=hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    with pytest.raises(TokenRefused):
        list_repo("org/gated", endpoint=hub.url)


def test_a_limit_on_questions_is_told_or_waited_for(hub: FakeHub, repo: Path) -> None:
    """A short wait is worth it; a long one is the user's decision."""
    hub.fault("status", path="api/models/*", status=429, seconds=1)
    assert list_repo("org/gated", endpoint=hub.url).files
    hub.fault("status", path="api/models/*", status=429, seconds=900)
    with pytest.raises(RateLimited, match="in 900 seconds"):
        list_repo("org/gated", endpoint=hub.url)


def test_a_revision_that_moved_during_a_pull_is_told(
    store: Store, hub: FakeHub, repo: Path
) -> None:
    """Files are asked for by commit, so that nothing is mixed."""
    (repo / ".fakehub.json").write_text("{}")
    listing = list_repo("org/gated", endpoint=hub.url)
    (repo / "config.json").write_bytes(b'{"new": 1}')
    with hold(store.layout) as lease, pytest.raises(RevisionMissing, match="may have moved"):
        RepoFetch(store, lease, listing, lambda _step: None).fetch(listing.files)


@pytest.mark.parametrize("path", ["../../.bashrc", "/etc/x", "C:\\x", "a/../../b", "a\nb"])
def test_names_of_remote_files_make_no_local_paths(
    store: Store, hub: FakeHub, repo: Path, path: str
) -> None:
    """They are asked for at the hub, as they are, and that is all."""
    (repo / ".fakehub.json").write_text("{}")
    listing = list_repo("org/gated", endpoint=hub.url)
    before = {entry for entry in repo.parents[2].rglob("*") if "store" not in entry.parts}
    with hold(store.layout) as lease, pytest.raises(QmError):
        fetch = RepoFetch(store, lease, listing, lambda _step: None, Limits(patience=1))
        fetch.fetch([RepoFile(path, 4, f"sha256:{'0' * 64}", "")])
    after = {entry for entry in repo.parents[2].rglob("*") if "store" not in entry.parts}
    assert after == before
