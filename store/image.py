"""The manifest format: an OCI image manifest, read strictly because strangers send it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from .errors import InvalidRequest
from .hashing import digest_text
from .layout import InvalidDigest, parse_digest

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
MODEL_TYPE = "application/vnd.ollama.image.model"
PROJECTOR_TYPE = "application/vnd.ollama.image.projector"
DRAFT_TYPE = "application/vnd.ollama.image.draft"
ADAPTER_TYPE = "application/vnd.ollama.image.adapter"
TEMPLATE_TYPE = "application/vnd.ollama.image.template"
SYSTEM_TYPE = "application/vnd.ollama.image.system"
PARAMS_TYPE = "application/vnd.ollama.image.params"
MESSAGES_TYPE = "application/vnd.ollama.image.messages"
LICENSE_TYPE = "application/vnd.ollama.image.license"

MAX_MANIFEST_BYTES = 4 << 20
MAX_LAYERS = 4096
MAX_BLOB_BYTES = 1 << 50
_MAX_TEXT_CHARACTERS = 4096
_MAX_ANNOTATIONS = 256


class ManifestInvalid(InvalidRequest):
    """A manifest that breaks the format; says where."""

    code = "manifest_invalid"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob as a manifest names it."""

    media_type: str
    digest: str
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model: its config and its layers."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """The manifest in `data`; raises ManifestInvalid on anything out of the ordinary."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise ManifestInvalid(f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes")
        fields = _object(_load(data), "the manifest")
        if fields.get("schemaVersion") != 2 or isinstance(fields["schemaVersion"], bool):
            raise ManifestInvalid("the manifest's schemaVersion is not 2")
        if fields.get("mediaType", MANIFEST_TYPE) not in (MANIFEST_TYPE, OCI_MANIFEST_TYPE):
            raise ManifestInvalid("the manifest's mediaType is not that of an image")
        manifest = cls(
            config=_descriptor(fields.get("config"), "config"),
            layers=_layers(fields.get("layers")),
            annotations=_annotations(fields.get("annotations"), "annotations"),
        )
        _check_sizes_agree(manifest)
        return manifest

    def to_json(self) -> bytes:
        """The same bytes for equal manifests; `parse` reads them back equal."""
        fields: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _fields(self.config),
            "layers": [_fields(layer) for layer in self.layers],
        }
        if self.annotations:
            fields["annotations"] = dict(sorted(self.annotations.items()))
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """Of the bytes that `to_json` gives."""
        return digest_text(sha256(self.to_json()).hexdigest())

    def descriptors(self) -> tuple[Descriptor, ...]:
        """Of all blobs, the config's first, each once."""
        return tuple({each.digest: each for each in (self.config, *self.layers)}.values())

    def blobs(self) -> tuple[str, ...]:
        """All digests, the config's first, each once."""
        return tuple(descriptor.digest for descriptor in self.descriptors())

    def layers_of(self, media_type: str) -> tuple[Descriptor, ...]:
        """The layers of one kind, in order."""
        return tuple(layer for layer in self.layers if layer.media_type == media_type)


def _load(data: bytes) -> object:
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"the manifest is not JSON: {error}") from error
    return value


def _object(value: object, where: str) -> dict[str, Any]:  # Any: JSON, checked field by field
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where} is not an object")
    return value


def _layers(value: object) -> tuple[Descriptor, ...]:
    if not isinstance(value, list) or not value:
        raise ManifestInvalid("the manifest has no layers")
    if len(value) > MAX_LAYERS:
        raise ManifestInvalid(f"the manifest has more than {MAX_LAYERS} layers")
    return tuple(_descriptor(layer, f"layers[{index}]") for index, layer in enumerate(value))


def _descriptor(value: object, where: str) -> Descriptor:
    fields = _object(value, where)
    return Descriptor(
        media_type=_text(fields.get("mediaType"), f"{where}.mediaType"),
        digest=_digest(fields.get("digest"), where),
        size_bytes=_size(fields.get("size"), where),
        annotations=_annotations(fields.get("annotations"), f"{where}.annotations"),
    )


def _digest(value: object, where: str) -> str:
    try:
        return parse_digest(_text(value, f"{where}.digest"))
    except InvalidDigest as error:
        raise ManifestInvalid(f"{where}: {error}") from error


def _size(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_BLOB_BYTES:
        raise ManifestInvalid(f"{where}.size is not a sensible number of bytes")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT_CHARACTERS:
        raise ManifestInvalid(f"{where} is not a text of sensible length")
    return value


def _annotations(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    fields = _object(value, where)
    if len(fields) > _MAX_ANNOTATIONS or not all(isinstance(text, str) for text in fields.values()):
        raise ManifestInvalid(f"{where} is not a map of texts")
    return fields


def _check_sizes_agree(manifest: Manifest) -> None:
    sizes: dict[str, int] = {}
    for descriptor in (manifest.config, *manifest.layers):
        if sizes.setdefault(descriptor.digest, descriptor.size_bytes) != descriptor.size_bytes:
            raise ManifestInvalid(f"{descriptor.digest} is listed with two sizes")
    if manifest.config.digest in {layer.digest for layer in manifest.layers}:
        raise ManifestInvalid("the config is listed as a layer too")


def _fields(descriptor: Descriptor) -> dict[str, object]:
    fields: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size_bytes,
    }
    if descriptor.annotations:
        fields["annotations"] = dict(sorted(descriptor.annotations.items()))
    return fields
