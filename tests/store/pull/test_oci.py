"""Images on registries: a real one for what works, a scripted one for who must not be trusted."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from qm.store.blobs import BlobCorrupt
from qm.store.errors import QmError
from qm.store.gguf import GgufInvalid
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, Descriptor, Manifest, ManifestInvalid
from qm.store.manifests import ModelNotFound
from qm.store.name import Name
from qm.store.pull import push as push_module
from qm.store.pull.addresses import ForbiddenAddress
from qm.store.pull.challenge import AuthUnreadable, Challenge, ForeignRealm, parse_challenge
from qm.store.pull.download import WrongDigest
from qm.store.pull.oci import pull_image
from qm.store.pull.push import ForeignUpload, push_image
from qm.store.pull.registry import (
    Endpoint,
    LoginNeeded,
    NotOnRegistry,
    RegistryRefused,
    RegistryUnreachable,
)
from qm.store.store import Store, open_store

from tests.registry import Registry, running_registry
from tests.store.pull.fake_registry import Asked, FakeRegistry, Said, serving, with_tokens

EMPTY_GGUF = b"GGUF" + (3).to_bytes(4, "little") + bytes(16)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serving() as registry:
        yield registry


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def add_model(store: Store, name: str, *layers: bytes) -> Manifest:
    config = Descriptor(CONFIG_TYPE, store.blobs.put(b'{"model_format":"gguf"}'), 23)
    put = (Descriptor("x/y", store.blobs.put(data), len(data)) for data in layers)
    return store.manifests.write(Name.parse(name), Manifest(config, tuple(put))).manifest


def quiet(_: dict[str, object]) -> None:
    """Nobody looks at the progress."""


def trusted(registry: Registry | FakeRegistry, auth_file: Path | None = None) -> Endpoint:
    return Endpoint(registry.url, trusted=True, auth_file=auth_file)


def named(registry: Registry | FakeRegistry, rest: str = "lib/tiny:v1") -> Name:
    return Name.parse(f"{registry.host}/{rest}")


# A real registry ----------------------------------------------------------------------------------


def test_a_model_goes_out_and_comes_back(store: Store, tmp_path: Path, registry: Registry) -> None:
    """Pushed from one store and pulled into another: the same manifest, the same bytes."""
    layers = (EMPTY_GGUF, b"x" * 3_000_000, b"")
    manifest = add_model(store, "tiny", *layers)
    steps: list[dict[str, object]] = []
    push_image(store, trusted(registry), Name.parse("tiny"), named(registry), steps.append)
    statuses = list(dict.fromkeys(str(step["status"]) for step in steps))
    assert (statuses[0], statuses[-1]) == ("retrieving manifest", "pushing manifest")
    other = open_store(tmp_path / "other")
    assert pull_image(other, trusted(registry), named(registry), quiet) == manifest
    stored = other.manifests.read(named(registry))
    assert stored.digest == store.manifests.read(Name.parse("tiny")).digest
    for layer in manifest.layers:
        other.blobs.verify(layer.digest)
    assert pull_image(other, trusted(registry), named(registry), quiet) == manifest


def test_chunks_arrive_whole(
    store: Store, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob of many chunks is put together as it was."""
    monkeypatch.setattr(push_module, "CHUNK_BYTES", 100_000)
    data = hashlib.shake_256(b"m").digest(1_234_567)
    add_model(store, "chunky", data)
    target = named(registry, "lib/chunky:v1")
    push_image(store, trusted(registry), Name.parse("chunky"), target, quiet)
    other = open_store(tmp_path / "other")
    pull_image(other, trusted(registry), target, quiet)
    assert other.blobs.path(digest_of(data)).read_bytes() == data


def test_an_interrupted_upload_goes_on(
    store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next push sends only what the registry has not got yet."""
    monkeypatch.setattr(push_module, "CHUNK_BYTES", 100_000)
    data = hashlib.shake_256(b"again").digest(1_000_000)
    add_model(store, "broken", data)
    digest, target = digest_of(data), named(registry, "lib/broken:v1")
    steps: list[dict[str, object]] = []

    class Interrupted(Exception):
        pass

    def stop_halfway(step: dict[str, object]) -> None:
        if step.get("digest") == digest and step["completed"] == 500_000:
            raise Interrupted

    with pytest.raises(Interrupted):
        push_image(store, trusted(registry), Name.parse("broken"), target, stop_halfway)
    push_image(store, trusted(registry), Name.parse("broken"), target, steps.append)
    seen = [step["completed"] for step in steps if step.get("digest") == digest]
    assert seen[:2] == [0, 600_000]
    assert [path.name for path in store.layout.partial.iterdir()] == []


def test_what_is_there_is_not_sent_again(store: Store, registry: Registry) -> None:
    """A second tag of the same model is a manifest and nothing else."""
    add_model(store, "twice", b"the same" * 1000)
    for tag in ("a", "b"):
        target = named(registry, f"lib/twice:{tag}")
        push_image(store, trusted(registry), Name.parse("twice"), target, quiet)


def test_a_missing_model_is_said(store: Store, registry: Registry) -> None:
    """By the registry's own words, with its name; and one that is missing here likewise."""
    with pytest.raises(NotOnRegistry, match="lib/none:v1"):
        pull_image(store, trusted(registry), named(registry, "lib/none:v1"), quiet)
    with pytest.raises(ModelNotFound):
        push_image(store, trusted(registry), Name.parse("none"), named(registry), quiet)


def test_damaged_bytes_never_leave(store: Store, registry: Registry) -> None:
    """Push sends a blob only while it is what its digest says."""
    manifest = add_model(store, "damaged", b"secret" * 100)
    path = store.layout.blob(manifest.layers[0].digest)
    path.chmod(0o644)
    path.write_bytes(b"leaked" * 100)
    target = named(registry, "lib/damaged:v1")
    with pytest.raises(BlobCorrupt):
        push_image(store, trusted(registry), Name.parse("damaged"), target, quiet)
    with pytest.raises(NotOnRegistry):
        pull_image(store, trusted(registry), target, quiet)


def test_what_is_no_model_is_not_registered(
    store: Store, tmp_path: Path, registry: Registry
) -> None:
    """A layer that says it has weights is looked at before anybody sees the model."""
    data = b"GGUF and nothing else"
    config = Descriptor(CONFIG_TYPE, store.blobs.put(b"{}"), 2)
    layer = Descriptor(MODEL_TYPE, store.blobs.put(data), len(data))
    store.manifests.write(Name.parse("bad"), Manifest(config, (layer,)))
    target = named(registry, "lib/bad:v1")
    push_image(store, trusted(registry), Name.parse("bad"), target, quiet)
    other = open_store(tmp_path / "other")
    with pytest.raises(GgufInvalid):
        pull_image(other, trusted(registry), target, quiet)
    assert other.manifests.list() == ([], [])


# Tokens -------------------------------------------------------------------------------------------


def login(tmp_path: Path, host: str) -> Path:
    path = tmp_path / "auth.json"
    auth = base64.b64encode(b"alice:pass").decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return path


def image(*layers: bytes) -> tuple[bytes, dict[str, bytes]]:
    """A manifest and the blobs by digest."""
    blobs = {digest_of(data): data for data in (b"{}", *layers)}
    described = [Descriptor("x/y", digest_of(data), len(data)) for data in layers]
    return Manifest(Descriptor(CONFIG_TYPE, digest_of(b"{}"), 2), tuple(described)).to_json(), blobs


def serve(manifest: bytes, blobs: dict[str, bytes]) -> object:
    def script(asked: Asked) -> Said:
        if "/manifests/" in asked.path:
            return Said(200, manifest)
        data = blobs.get(asked.path.rpartition("/")[2])
        return Said(404) if data is None else Said(200, data)

    return script


def test_a_token_is_fetched_and_used(store: Store, fake: FakeRegistry, tmp_path: Path) -> None:
    """The login goes to the realm, the token to the registry, nothing anywhere else."""
    manifest, blobs = image(b"weights")
    fake.script = with_tokens(f"{fake.url}/token", serve(manifest, blobs))  # type: ignore[arg-type]
    pull_image(store, trusted(fake, login(tmp_path, fake.host)), named(fake), quiet)
    (asked,) = (each for each in fake.asked if each.path.startswith("/token"))
    assert asked.authorization == f"Basic {base64.b64encode(b'alice:pass').decode()}"
    assert "scope=repository%3Alib%2Ftiny%3Apull" in asked.path
    others = {each.authorization for each in fake.asked if not each.path.startswith("/token")}
    assert others == {None, "Bearer secret-token"}


def test_a_foreign_realm_gets_nothing(store: Store, fake: FakeRegistry, tmp_path: Path) -> None:
    """A registry can't send our login to another host, not even to another port of its own."""
    with serving() as thief:
        fake.script = with_tokens(f"{thief.url}/token", lambda _: Said(404))
        with pytest.raises(ForeignRealm):
            pull_image(store, trusted(fake, login(tmp_path, fake.host)), named(fake), quiet)
        assert thief.asked == []


@pytest.mark.parametrize("realm", ["", "file:///etc/passwd", "https://u:p@x/", "//x", "http://["])
def test_a_senseless_realm_is_refused(store: Store, fake: FakeRegistry, realm: str) -> None:
    """Whatever a server writes there, it is an error of ours."""
    fake.script = with_tokens(realm, lambda _: Said(404))
    with pytest.raises((ForeignRealm, ForbiddenAddress)):
        pull_image(store, trusted(fake), named(fake), quiet)


def test_a_redirect_gets_no_token(store: Store, fake: FakeRegistry) -> None:
    """Blobs may lie elsewhere, where nobody knows our token."""
    manifest, blobs = image(b"weights")
    with serving() as cdn:
        cdn.script = lambda asked: Said(200, blobs[asked.path[1:]])

        def script(asked: Asked) -> Said:
            if "/manifests/" in asked.path:
                return Said(200, manifest)
            where = f"{cdn.url}/{asked.path.rpartition('/')[2]}"
            return Said(307, b"", {"Location": where})

        fake.script = with_tokens(f"{fake.url}/token", script)
        pull_image(store, trusted(fake), named(fake), quiet)
        assert {each.authorization for each in cdn.asked} == {None}
        assert {each.path[1:] for each in cdn.asked} == set(blobs)


def test_without_a_login_it_says_where_to_put_one(
    store: Store, fake: FakeRegistry, tmp_path: Path
) -> None:
    """Basic without credentials, a scheme that nobody knows, a realm that refuses."""
    for header in ("Basic realm=x", "Negotiate", ""):
        said = Said(401, b"", {"WWW-Authenticate": header})
        fake.script = lambda _, said=said: said  # type: ignore[misc]
        with pytest.raises(LoginNeeded, match="docker login"):
            pull_image(store, trusted(fake, tmp_path / "none"), named(fake), quiet)
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    with pytest.raises(AuthUnreadable, match=r"bad\.json"):
        pull_image(store, trusted(fake, bad), named(fake), quiet)


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (
            'Bearer realm="https://a/t",service="s",scope="x"',
            Challenge("bearer", "https://a/t", "s", "x"),
        ),
        ("bearer realm=https://a/t , service=s", Challenge("bearer", "https://a/t", "s", "")),
        ("BASIC realm=x", Challenge("basic")),
        ("Digest x", None),
        ("", None),
    ],
)
def test_challenges_are_read(header: str, challenge: Challenge | None) -> None:
    """Quoted or not, in any case; what we don't speak is None."""
    assert parse_challenge(header) == challenge


# Answers that mean harm ---------------------------------------------------------------------------


def test_a_private_address_is_not_asked_for_strangers(store: Store, fake: FakeRegistry) -> None:
    """Only a registry that the user configured may be at home in our network."""
    with pytest.raises(ForbiddenAddress):
        pull_image(store, Endpoint(fake.url), named(fake), quiet)
    with pytest.raises(ForbiddenAddress):
        push_image(store, Endpoint("http://169.254.169.254"), *pushed(store), quiet)
    assert fake.asked == []


def pushed(store: Store) -> tuple[Name, Name]:
    add_model(store, "mine", b"bytes")
    return Name.parse("mine"), Name.parse("h/n/m")


def test_an_upload_does_not_go_elsewhere(store: Store, fake: FakeRegistry) -> None:
    """Nor does the token that it would carry."""
    with serving() as thief:

        def script(asked: Asked) -> Said:
            if asked.method == "POST":
                return Said(202, b"", {"Location": f"{thief.url}/upload"})
            return Said(404)

        fake.script = script
        with pytest.raises(ForeignUpload):
            push_image(store, trusted(fake), *pushed(store), quiet)
        assert thief.asked == []


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"schemaVersion":2,"layers":[]}',
        b" " * (5 << 20),
        gzip.compress(b" " * 1_000_000),
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}',
    ],
)
def test_a_bad_manifest_is_refused(store: Store, fake: FakeRegistry, manifest: bytes) -> None:
    """Missing, endless, compressed or of another kind: nothing is kept of it."""
    fake.script = lambda _: Said(200, manifest)
    with pytest.raises(ManifestInvalid):
        pull_image(store, trusted(fake), named(fake), quiet)
    assert store.blobs.list() == []


def test_wrong_bytes_are_refused(store: Store, fake: FakeRegistry) -> None:
    """Of the right size, and still nothing visible is kept."""
    manifest, blobs = image(b"weights")
    digest = digest_of(b"weights")
    fake.script = serve(manifest, {**blobs, digest: b"evil!!!"})  # type: ignore[assignment]
    with pytest.raises(WrongDigest):
        pull_image(store, trusted(fake), named(fake), quiet)
    assert not store.blobs.has(digest)
    assert store.manifests.list() == ([], [])


def test_a_registry_that_is_down_or_broken(store: Store, fake: FakeRegistry) -> None:
    """Said in one sentence, with its words if it has any."""
    fake.script = lambda _: Said(500, b'{"errors":[{"message":"disk on fire"}]}')
    with pytest.raises(RegistryRefused, match="disk on fire"):
        pull_image(store, trusted(fake), named(fake), quiet)
    fake.script = lambda _: Said(500, b'{"errors":[1]}')
    with pytest.raises(RegistryRefused, match="status 500"):
        pull_image(store, trusted(fake), named(fake), quiet)
    nobody = Endpoint("http://127.0.0.1:1", trusted=True)
    with pytest.raises(RegistryUnreachable, match=r"127\.0\.0\.1:1"):
        pull_image(store, nobody, Name.parse("127.0.0.1:1/n/m"), quiet)


def test_an_upload_that_keeps_failing_gives_up(
    store: Store, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few tries, with what the registry said."""
    monkeypatch.setattr(push_module, "backoff_s", lambda *_: 0.0)
    fake.script = lambda asked: Said(404 if asked.method == "HEAD" else 503)
    with pytest.raises(QmError, match="503"):
        push_image(store, trusted(fake), *pushed(store), quiet)
    assert len(fake.asked) == 1 + push_module.PATIENCE
