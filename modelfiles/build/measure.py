"""`qm eval`: a model that is here, measured; the result is kept in its config."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from qm.store.errors import InvalidRequest
from qm.store.hashing import digest_text
from qm.store.image import CONFIG_TYPE, Descriptor, Manifest
from qm.store.layout import parse_digest
from qm.store.leases import Lease, hold
from qm.store.manifests import StoredManifest
from qm.store.name import Name
from qm.store.store import Store

from ..config import Config
from ..model import Model, load_model
from ..quality import Quality
from .register import Progress
from .texts import EVALUATION


class NothingToPredict(InvalidRequest):
    """A model that only embeds predicts no text, so there is no perplexity to measure."""

    code = "nothing_to_predict"


def measure(
    store: Store, name: Name, base: Name | None, text_digest: str, on_progress: Progress
) -> Quality:
    """`text_digest` is that of a blob, empty for the text that comes with qm.

    Raises ModelNotFound, NothingToPredict and what `evaluate` raises. Runs llama.cpp.
    """
    from .evaluate import Subject, evaluate  # noqa: PLC0415  brings llama.cpp

    stored = store.manifests.read(name)
    with hold(store.layout, stored.manifest.blobs()) as lease:
        model, other = _generating(store, name), base and _generating(store, base)
        text, told = _text(store, lease, text_digest)
        subject = Subject(model.weights, other.weights if other else ())
        on_progress({"status": "measuring speed"})
        measured = evaluate(
            subject,
            text,
            lambda done, total: on_progress(
                {"status": "evaluating", "completed": done, "total": total, "unit": "chunks"}
            ),
        )
        quality = replace(measured, text=told, base=str(other.name) if other else "")
        _keep(store, lease, stored, quality)
    return quality


def _generating(store: Store, name: Name) -> Model:
    model = load_model(store, name)
    if "completion" not in model.capabilities:
        raise NothingToPredict(f"{model.name.short} only embeds; it predicts no text to measure")
    return model


def _text(store: Store, lease: Lease, digest: str) -> tuple[bytes, str]:
    """The text, and the digest by which it is told."""
    if not digest:
        return EVALUATION.data, EVALUATION.digest
    lease.add(parse_digest(digest))
    return store.blobs.path(digest).read_bytes(), digest


def _keep(store: Store, lease: Lease, stored: StoredManifest, quality: Quality) -> None:
    """A new config blob, and the same manifest around it."""
    manifest = stored.manifest
    config = Config.parse(store.blobs.path(manifest.config.digest).read_bytes())
    data = replace(config, quality=quality).to_json(layer.digest for layer in manifest.layers)
    digest = digest_text(sha256(data).hexdigest())
    lease.add(digest)
    if not store.blobs.has(digest):
        store.blobs.put(data)
    changed = Manifest(
        Descriptor(CONFIG_TYPE, digest, len(data)), manifest.layers, manifest.annotations
    )
    store.manifests.write(stored.name, changed)
