"""What huggingface_hub's users set in their environment holds here, in processes like our jobs."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakehub import FakeHub
from tests.store.pull.loopback_proxy import loopback_proxy
from tests.store.pull.puller import DIGEST, SMALL, WEIGHTS, Puller, make_repo


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub(make_repo(tmp_path / "repos")) as hub:
        yield hub


def test_a_proxy_is_used_for_questions_and_bytes(puller: Puller, hub: FakeHub) -> None:
    """With its password; the hub itself is asked by nobody else."""
    with loopback_proxy() as proxy:
        told = puller.pull(HF_ENDPOINT=hub.url, HTTP_PROXY=proxy.url, http_proxy=proxy.url)
    assert told == "model.gguf params"
    assert puller.has_weights()
    assert any("/api/models/" in one for one in proxy.asked)
    assert any("/blobs/" in one for one in proxy.asked)
    assert len(proxy.asked) >= len(hub.log)
    assert set(proxy.passwords) == {"Basic dXNlcjpzZWNyZXQ="}


def test_no_proxy_goes_around_it(puller: Puller, hub: FakeHub) -> None:
    """For the hosts that it names."""
    with loopback_proxy() as proxy:
        proxies = {"HTTP_PROXY": proxy.url, "NO_PROXY": "127.0.0.1,localhost"}
        told = puller.pull(HF_ENDPOINT=hub.url, **proxies)
    assert (told, proxy.asked) == ("model.gguf params", [])


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side, and the certificate of its own authority."""
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-days", "1", "-subj", "/CN=localhost", "-keyout", str(key)),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def test_own_authorities_are_trusted_when_told(
    puller: Puller, tls: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    """By either name; through a proxy too. Otherwise nothing is sent to the hub."""
    context, certificate = tls
    with FakeHub(make_repo(tmp_path / "repos"), tls=context) as hub, loopback_proxy() as proxy:
        refused = puller.pull(HF_ENDPOINT=hub.url)
        assert refused.startswith("hub_unreachable: can't reach"), refused
        assert "certificate" in refused.lower()
        assert hub.log == []
        told = puller.pull(HF_ENDPOINT=hub.url, REQUESTS_CA_BUNDLE=str(certificate))
        assert told == "model.gguf params"
        assert puller.has_weights()
        elsewhere = Puller(tmp_path / "second")
        elsewhere.directory.mkdir()
        bundle = {"SSL_CERT_FILE": str(certificate), "HTTPS_PROXY": proxy.url}
        assert elsewhere.pull(HF_ENDPOINT=hub.url, **bundle) == "model.gguf params"
        assert {one.split()[0] for one in proxy.asked} == {"CONNECT"}


def test_a_token_file_counts_at_the_time_of_the_pull(puller: Puller, tmp_path: Path) -> None:
    """As `hf auth login` writes it, or where HF_TOKEN_PATH says; HF_TOKEN wins."""
    config = {"gated": "manual", "readers": ["alice"]}
    with FakeHub(make_repo(tmp_path / "repos", **config)) as hub:
        refused = puller.pull(HF_ENDPOINT=hub.url)
        assert refused.startswith("repo_gated: org/tiny is gated: accept its licence at"), refused
        (tmp_path / "hf").mkdir(exist_ok=True)
        (tmp_path / "hf" / "token").write_text("hf_bob\n")
        assert puller.pull(HF_ENDPOINT=hub.url).startswith("repo_gated")
        (tmp_path / "hf" / "token").write_text("hf_alice\n")
        assert puller.pull(HF_ENDPOINT=hub.url) == "model.gguf params"
        assert puller.pull(HF_ENDPOINT=hub.url, HF_TOKEN="hf_nobody").startswith("token_refused")


def fill_cache(hub_home: Path, *, ref: str = "main") -> None:
    """As huggingface_hub leaves a repository."""
    folder, commit = hub_home / "hub/models--org--tiny", "a" * 40
    oid = hashlib.sha1(b"blob %d\0" % len(SMALL) + SMALL, usedforsecurity=False).hexdigest()
    snapshot = folder / "snapshots" / commit
    for directory in (snapshot, folder / "refs", folder / "blobs"):
        directory.mkdir(parents=True)
    (folder / "refs" / ref).write_text(commit)
    for name, blob, data in (
        ("model.gguf", DIGEST.removeprefix("sha256:"), WEIGHTS),
        ("params", oid, SMALL),
    ):
        (folder / "blobs" / blob).write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")


def test_offline_the_cache_is_enough(puller: Puller, hub: FakeHub, tmp_path: Path) -> None:
    """Nobody is asked; what is not there is an error that says so."""
    offline = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1"}
    refused = puller.pull(**offline)
    assert refused.startswith("not_cached: offline mode is on (HF_HUB_OFFLINE)"), refused
    fill_cache(tmp_path / "hf")
    assert puller.pull(**offline) == "model.gguf params"
    assert puller.has_weights()
    assert hub.log == []


def test_online_the_cache_saves_the_transfer(puller: Puller, hub: FakeHub, tmp_path: Path) -> None:
    """Of every file that it has as the hub has it."""
    fill_cache(tmp_path / "hf")
    assert puller.pull(HF_ENDPOINT=hub.url) == "model.gguf params"
    assert hub.sent_bytes() == 0
    assert not any("resolve" in entry["path"] for entry in hub.log)
