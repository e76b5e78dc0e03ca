"""Making a model visible: its layers and config as blobs, then the manifest that names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from qm.store.image import (
    ADAPTER_TYPE,
    CONFIG_TYPE,
    DRAFT_TYPE,
    LICENSE_TYPE,
    MESSAGES_TYPE,
    MODEL_TYPE,
    PARAMS_TYPE,
    PROJECTOR_TYPE,
    SYSTEM_TYPE,
    TEMPLATE_TYPE,
    Descriptor,
    Manifest,
)
from qm.store.leases import Lease
from qm.store.manifests import StoredManifest
from qm.store.name import Name
from qm.store.store import Store, put_leased

from ..config import Config

Progress: TypeAlias = Callable[[dict[str, object]], None]
"""Called with what `/api/create` streams: status, and digest, total, completed where they apply."""

_ORDER = (
    MODEL_TYPE,
    PROJECTOR_TYPE,
    ADAPTER_TYPE,
    DRAFT_TYPE,
    TEMPLATE_TYPE,
    SYSTEM_TYPE,
    PARAMS_TYPE,
    MESSAGES_TYPE,
    LICENSE_TYPE,
)


@dataclass(slots=True)
class Layers:
    """The layers of a model to be: begun with a base's, then changed kind by kind.

    `lease` keeps every blob until the manifest names it.
    """

    store: Store
    lease: Lease
    found: list[Descriptor] = field(default_factory=list)
    new: set[str] = field(default_factory=set)

    def of(self, media_type: str) -> tuple[Descriptor, ...]:
        return tuple(layer for layer in self.found if layer.media_type == media_type)

    def read(self, media_type: str) -> bytes | None:
        """The bytes of the last layer of this kind, None if there is none."""
        layers = self.of(media_type)
        return self.store.blobs.path(layers[-1].digest).read_bytes() if layers else None

    def keep(self, layers: Iterable[Descriptor]) -> None:
        """Takes these over. Raises BlobMissing or BlobChanged."""
        for layer in layers:
            self.lease.add(layer.digest)
            self.store.blobs.path(layer.digest)
            self._append(layer)

    def add(self, media_type: str, data: bytes) -> None:
        """One more layer with these bytes."""
        digest, new = put_leased(self.store, self.lease, data)
        if new:
            self.new.add(digest)
        self._append(Descriptor(media_type, digest, len(data)))

    def replace(self, media_type: str, data: bytes | None) -> None:
        """The only layer of this kind; None takes the kind away."""
        self.found = [layer for layer in self.found if layer.media_type != media_type]
        if data is not None:
            self.add(media_type, data)

    def in_order(self) -> tuple[Descriptor, ...]:
        """By kind, so that one model has one manifest however it was told."""
        rank = {media_type: at for at, media_type in enumerate(_ORDER)}
        return tuple(sorted(self.found, key=lambda layer: rank.get(layer.media_type, len(rank))))

    def _append(self, layer: Descriptor) -> None:
        if layer not in self.found:
            self.found.append(layer)


def register(
    name: Name,
    layers: Layers,
    config: Config,
    on_progress: Progress,
    *,
    annotations: Mapping[str, str] | None = None,
) -> StoredManifest:
    """The model under its name, durable when this returns."""
    ordered = layers.in_order()
    for layer in ordered:
        verb = "creating new" if layer.digest in layers.new else "using existing"
        on_progress({"status": f"{verb} layer {layer.digest}"})
    on_progress({"status": "writing manifest"})
    data = config.to_json(layer.digest for layer in ordered)
    digest, _ = put_leased(layers.store, layers.lease, data)
    manifest = Manifest(Descriptor(CONFIG_TYPE, digest, len(data)), ordered, annotations or {})
    return layers.store.manifests.write(name, manifest)


def json_bytes(document: Mapping[str, object] | list[dict[str, str]]) -> bytes:
    """The same bytes for the same document."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.encode()
