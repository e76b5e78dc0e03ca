"""`qm eval`: a model that is here, measured; the result is kept in its config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from qm.store.errors import InvalidRequest
from qm.store.image import CONFIG_TYPE, Descriptor, Manifest
from qm.store.layout import parse_digest
from qm.store.leases import Lease, hold
from qm.store.manifests import StoredManifest
from qm.store.name import Name
from qm.store.store import Store, put_leased

from ..config import Config
from ..model import Model, load_model
from ..quality import Quality
from .register import Progress
from .texts import EVALUATION

_MOST_S = 600.0  # for the text that comes with qm; a text that was given is read to its end


@dataclass(frozen=True, slots=True)
class Over:
    """What is read: the blob `text`, or the text that comes with qm; at most so many chunks."""

    text: str = ""
    chunks: int | None = None

    @property
    def most_s(self) -> float | None:
        return None if self.text else _MOST_S


class NothingToPredict(InvalidRequest):
    """A model that only embeds predicts no text, so there is no perplexity to measure."""

    code = "nothing_to_predict"


def measure(
    store: Store,
    name: Name,
    base: Name | None,
    over: Over,
    on_progress: Progress,
) -> Quality:
    """Perplexity and the rest of one model, beside its base if there is one.

    Raises ModelNotFound, NothingToPredict and what `evaluate` raises. Runs llama.cpp.
    """
    from .evaluate import Subject, evaluate  # noqa: PLC0415  brings llama.cpp

    stored = store.manifests.read(name)
    with hold(store.layout, stored.manifest.blobs()) as lease:
        model, other = _generating(store, name), base and _generating(store, base)
        text, told = _text(store, lease, over.text)
        subject = Subject(model.weights, other.weights if other else ())
        on_progress({"status": "measuring speed"})
        measured = evaluate(
            subject,
            text,
            _counted(on_progress),
            over.chunks,
            most_s=over.most_s,
        )
        quality = replace(measured, text=told, base=str(other.name) if other else "")
        _keep(store, lease, stored, quality)
    return quality


def compare(
    store: Store,
    base: Name,
    names: Sequence[Name],
    over: Over,
    on_progress: Progress,
) -> dict[str, Quality]:
    """What the base and the models made from it measured, by name; kept with each of them.

    The base reads the text once for all. Raises what `measure` raises.
    """
    from .ladder import measure_ladder  # noqa: PLC0415  brings llama.cpp

    stored = {name: store.manifests.read(name) for name in (base, *names)}
    with ExitStack() as stack:
        leases = {
            name: stack.enter_context(hold(store.layout, each.manifest.blobs()))
            for name, each in stored.items()
        }
        models = {name: _generating(store, name) for name in stored}
        text, told = _text(store, leases[base], over.text)
        on_progress({"status": "measuring speed"})
        of_base, of_models = measure_ladder(
            models[base].weights,
            {str(name): models[name].weights for name in names},
            text,
            _counted(on_progress),
            scratch=store.layout.partial,
            limit=over.chunks,
            most_s=over.most_s,
        )
        measured = {base: replace(of_base, text=told)}
        for name in names:
            measured[name] = replace(of_models[str(name)], text=told, base=str(models[base].name))
        for name, quality in measured.items():
            _keep(store, leases[name], stored[name], quality)
    return {str(name): quality for name, quality in measured.items()}


def _counted(on_progress: Progress) -> Callable[[int, int], None]:
    """Tells the chunks that were read."""
    return lambda done, total: on_progress(
        {"status": "evaluating", "completed": done, "total": total, "unit": "chunks"}
    )


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
    digest, _ = put_leased(store, lease, data)
    changed = Manifest(
        Descriptor(CONFIG_TYPE, digest, len(data)), manifest.layers, manifest.annotations
    )
    store.manifests.write(stored.name, changed)
