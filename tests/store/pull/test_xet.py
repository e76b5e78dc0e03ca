"""Repositories on xet storage: through hf_xet where it works, by the plain address otherwise."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fakehub import FakeHub
from tests.store.pull.puller import WEIGHTS, Puller, make_repo
from tests.store.pull.xet_storage import xet_storage

HALF_BYTES = 3 << 20
STANDIN = str(Path(__file__).with_name("xet_standin"))
PULLED = "model.gguf params"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub(make_repo(tmp_path / "repos"), xet=True) as hub:
        hub.xet_endpoint = f"{hub.url}/org/tiny/resolve/main/model.gguf"
        yield hub


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


def asked_passes(hub: FakeHub) -> int:
    return sum("xet-read-token" in entry["path"] for entry in hub.log)


def ranges(hub: FakeHub) -> list[str | None]:
    """What qm itself asked for at the plain address."""
    return [
        entry["range"] for entry in hub.log if entry["side"] == "cdn" and entry["agent"] == "qm"
    ]


def told(hub: FakeHub, how: str) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "PYTHONPATH": STANDIN, "HF_XET_STANDIN": how}


def test_hf_xet_brings_the_file(puller: Puller, hub: FakeHub) -> None:
    """All of it; the plain address is not read."""
    assert puller.pull(**told(hub, "good")) == PULLED
    assert puller.has_weights()
    assert (asked_passes(hub), ranges(hub)) == (1, [])


@pytest.mark.parametrize("how", ["breaks", "short"])
def test_what_hf_xet_leaves_comes_by_the_plain_address(
    puller: Puller, hub: FakeHub, how: str
) -> None:
    """And no more than that; one line says why."""
    done = puller.run(**told(hub, how))
    assert done.stdout.strip() == PULLED, done.stderr
    assert puller.has_weights()
    assert ranges(hub) == [f"bytes={HALF_BYTES}-{len(WEIGHTS) - 1}"]
    reason = "the storage went away" if how == "breaks" else f"ended after {HALF_BYTES} bytes"
    assert done.stderr.count("stream_left") == 1
    assert reason in done.stderr


@pytest.mark.parametrize("how", ["wrong", "long"])
def test_what_hf_xet_brings_is_not_believed(puller: Puller, hub: FakeHub, how: str) -> None:
    """Wrong bytes are fetched again, from the plain address; others beyond the end are not kept."""
    assert puller.pull(**told(hub, how)) == PULLED
    assert puller.has_weights()
    assert bool(ranges(hub)) == (how == "wrong")


def test_wrong_bytes_everywhere_keep_nothing(puller: Puller, hub: FakeHub) -> None:
    """By xet and by the plain address alike."""
    hub.fault("corrupt", side="cdn", times=0)
    assert puller.pull(**told(hub, "wrong")).startswith("wrong_digest: org/tiny/model.gguf")
    assert not puller.has_weights()
    assert not list((puller.directory / "store").rglob("pull-*"))


def test_a_killed_pull_goes_on_by_ranges(puller: Puller, hub: FakeHub) -> None:
    """What hf_xet brought before is kept, but for the last piece."""
    assert puller.run(**told(hub, "dies")).returncode == -signal.SIGKILL
    assert not puller.has_weights()
    assert puller.pull(**told(hub, "good")) == PULLED
    assert puller.has_weights()
    assert asked_passes(hub) == 1
    assert ranges(hub) == [f"bytes={2 << 20}-{len(WEIGHTS) - 1}"]


@pytest.mark.parametrize("how", ["missing", "disabled", "limited"])
def test_hf_xet_is_not_asked(tmp_path: Path, hub: FakeHub, how: str) -> None:
    """Where it is not installed, not wanted, or could not keep to a limit."""
    puller = Puller(tmp_path, bytes_per_s=1e9 if how == "limited" else 0.0)
    disabled = {"HF_HUB_DISABLE_XET": "1"} if how == "disabled" else {}
    assert puller.pull(**told(hub, how), **disabled) == PULLED
    assert puller.has_weights()
    assert asked_passes(hub) == 0


def test_a_token_asks_for_passes_at_home_only(puller: Puller, hub: FakeHub) -> None:
    """Whatever address the hub names for that."""
    hub.xet_passes_at = hub.cdn_url
    assert puller.pull(**told(hub, "good"), HF_TOKEN="hf_alice") == PULLED
    assert (asked_passes(hub), len(ranges(hub))) == (0, 1)


def test_a_pass_for_elsewhere_is_not_used(puller: Puller, hub: FakeHub) -> None:
    """A hub can't send hf_xet to other machines of the network at home."""
    hub.xet_endpoint = "http://192.168.77.77:8080"
    done = puller.run(**told(hub, "good"))
    assert done.stdout.strip() == PULLED
    assert "refusing to fetch from" in done.stderr


@pytest.mark.skipif(not find_spec("hf_xet"), reason="hf_xet is not installed")
def test_the_real_hf_xet_brings_the_file(puller: Puller, hub: FakeHub) -> None:
    """Out of storage that speaks its protocol; the plain address is not read."""
    with xet_storage(hub.repos.root / "org/tiny/model.gguf") as storage:
        hub.xet_endpoint = storage.url
        assert puller.pull(HF_ENDPOINT=hub.url) == PULLED
        assert puller.has_weights()
        assert (asked_passes(hub), ranges(hub)) == (1, [])
        assert storage.sent_bytes > len(WEIGHTS)


@pytest.mark.skipif(not find_spec("hf_xet"), reason="hf_xet is not installed")
def test_a_hub_without_passes_costs_one_question(puller: Puller, hub: FakeHub) -> None:
    """With the real hf_xet: nothing is tried again, the plain address is there."""
    hub.xet_endpoint = ""
    assert puller.pull(HF_ENDPOINT=hub.url) == PULLED
    assert puller.has_weights()
    assert asked_passes(hub) == 1


@pytest.mark.skipif(not find_spec("hf_xet"), reason="hf_xet is not installed")
def test_a_storage_that_says_nothing_is_left(puller: Puller, hub: FakeHub) -> None:
    """The real hf_xet waits for long; the pull does not."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub.xet_endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = puller.run(HF_ENDPOINT=hub.url)
    assert done.stdout.strip() == PULLED, done.stderr
    assert "nothing came for 5 s" in done.stderr
    assert puller.has_weights()
