from __future__ import annotations

import json
from typing import Any

import pytest
from qm.store.image import (
    CONFIG_TYPE,
    LICENSE_TYPE,
    MANIFEST_TYPE,
    MODEL_TYPE,
    OCI_MANIFEST_TYPE,
    Descriptor,
    Manifest,
    ManifestInvalid,
)

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def fields() -> dict[str, Any]:
    """A sound manifest, to be spoilt."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": A, "size": 2},
        "layers": [{"mediaType": MODEL_TYPE, "digest": B, "size": 7}],
    }


def parse(value: object) -> Manifest:
    return Manifest.parse(json.dumps(value).encode())


def test_what_is_printed_parses_back() -> None:
    """to_json and parse are inverse, and equal manifests have equal digests."""
    manifest = Manifest(
        Descriptor(CONFIG_TYPE, A, 2),
        (
            Descriptor(MODEL_TYPE, B, 7, {"org.opencontainers.image.title": "ä.gguf"}),
            Descriptor(LICENSE_TYPE, C, 1),
        ),
        {"z": "1", "a": "2"},
    )
    assert Manifest.parse(manifest.to_json()) == manifest
    assert Manifest.parse(manifest.to_json()).digest == manifest.digest
    assert manifest.blobs() == (A, B, C)
    assert manifest.layers_of(LICENSE_TYPE) == (Descriptor(LICENSE_TYPE, C, 1),)


@pytest.mark.parametrize("media_type", [MANIFEST_TYPE, OCI_MANIFEST_TYPE, None])
def test_both_kinds_of_registries_are_understood(media_type: str | None) -> None:
    """Docker's and OCI's media type, or none, and fields that we don't know."""
    value = fields() | {"mediaType": media_type, "artifactType": "x"}
    if media_type is None:
        del value["mediaType"]
    assert parse(value).layers[0].size_bytes == 7


def test_a_layer_may_come_twice() -> None:
    """Two equal licences are one blob."""
    value = fields()
    value["layers"] *= 2
    assert parse(value).blobs() == (A, B)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schemaVersion",), 1),
        (("schemaVersion",), "2"),
        (("schemaVersion",), None),
        (("mediaType",), "application/vnd.oci.image.index.v1+json"),
        (("config",), None),
        (("config",), []),
        (("layers",), None),
        (("layers",), []),
        (("layers",), {}),
        (("layers",), "x"),
        (("layers", 0), None),
        (("layers", 0, "digest"), "sha256:../../etc/x"),
        (("layers", 0, "digest"), B + "\n"),
        (("layers", 0, "digest"), B.upper()),
        (("layers", 0, "digest"), None),
        (("layers", 0, "digest"), A),
        (("layers", 0, "size"), -1),
        (("layers", 0, "size"), 1 << 60),
        (("layers", 0, "size"), 1.5),
        (("layers", 0, "size"), "7"),
        (("layers", 0, "size"), True),
        (("layers", 0, "size"), None),
        (("layers", 0, "mediaType"), ""),
        (("layers", 0, "mediaType"), 5),
        (("layers", 0, "mediaType"), "x" * 5000),
        (("layers", 0, "annotations"), []),
        (("annotations",), {"a": 1}),
        (("annotations",), {str(n): "" for n in range(300)}),
    ],
)
def test_a_malformed_manifest_is_refused(path: tuple[Any, ...], value: object) -> None:
    """Every field is checked; the error is a 400."""
    spoilt = fields()
    place: Any = spoilt
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ManifestInvalid) as caught:
        parse(spoilt)
    assert caught.value.status == 400


def test_one_digest_has_one_size() -> None:
    """The same blob can't have 7 bytes and 8."""
    value = fields()
    value["layers"].append(dict(value["layers"][0], size=8))
    with pytest.raises(ManifestInvalid, match="two sizes"):
        parse(value)


def test_a_million_layers_are_too_many() -> None:
    """Refused by size before the parser makes objects of them."""
    value = fields()
    value["layers"] *= 5000
    with pytest.raises(ManifestInvalid, match="layers"):
        parse(value)
    value["layers"] *= 200
    with pytest.raises(ManifestInvalid, match="longer"):
        parse(value)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"[" * 1_000_000, b"\xff\xfe", b'{"schemaVersion": NaN}', b"\0"],
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    """Deep nesting included."""
    with pytest.raises(ManifestInvalid):
        Manifest.parse(data)
