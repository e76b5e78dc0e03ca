"""`qm rebuild --check`: every step of a model done anew, and whether the same bytes come out."""

from __future__ import annotations

from dataclasses import dataclass

from qm.store.blobs import BlobMissing
from qm.store.errors import Conflict, InvalidRequest
from qm.store.gguf import read_header
from qm.store.image import MODEL_TYPE, Manifest
from qm.store.leases import hold
from qm.store.name import Name
from qm.store.store import Store, put_leased

from ..config import Config
from ..provenance import Provenance, StepRecord
from .plan import KEY_PREFIX, Step, StepKind
from .register import Progress
from .steps import PERFORMERS, tools
from .texts import BUNDLED
from .workshop import Workshop


class NothingToRebuild(InvalidRequest):
    """A model whose weights came as they are."""

    code = "nothing_to_rebuild"


class InputsMissing(Conflict):
    """What the model was made from is not here any more."""

    code = "inputs_missing"


@dataclass(frozen=True, slots=True)
class Checked:
    """One step done again: what it was made with and gave, then and now."""

    record: StepRecord
    output: str
    tool: str

    @property
    def same(self) -> bool:
        return self.record.output == self.output


def rebuild(store: Store, name: Name, on_progress: Progress) -> list[Checked]:
    """Raises ModelNotFound, NothingToRebuild, InputsMissing and what steps raise."""
    stored = store.manifests.read(name)
    config = Config.parse(store.blobs.path(stored.manifest.config.digest).read_bytes())
    if config.provenance is None or not config.provenance.steps:
        raise NothingToRebuild(f"nothing was done to the weights of {stored.name.short} here")
    with hold(store.layout, stored.manifest.blobs()) as lease:
        workshop = Workshop(store, lease, on_progress, PERFORMERS, fresh=True)
        _describe_again(workshop, stored.manifest, config.provenance)
        _bring_inputs(store, workshop, config.provenance)
        records = config.provenance.steps
        outputs = workshop.perform_all([_step(record) for record in records])
        return [
            Checked(record, output, _tool(record))
            for record, output in zip(records, outputs, strict=True)
        ]


def _step(record: StepRecord) -> Step:
    return Step(StepKind(record.kind), record.tool, record.inputs, record.parameters)


def _tool(record: StepRecord) -> str:
    """The one that does such a step now."""
    versions = tools()
    converts = record.kind in (StepKind.CONVERT, StepKind.ADAPTER)
    return versions.convert if converts else versions.llama_cpp


def _describe_again(workshop: Workshop, manifest: Manifest, made: Provenance) -> None:
    """What an adapter was converted by, where its base is a GGUF: that says it again."""
    told = {step.inputs.get("config.json") for step in made.steps if step.kind == StepKind.ADAPTER}
    if not told.difference(made.files.values()):
        return
    from .convert.gguf_config import config_of_gguf  # noqa: PLC0415  brings numpy

    weights = next(layer for layer in manifest.layers if layer.media_type == MODEL_TYPE)
    header = read_header(workshop.store.blobs.path(weights.digest))
    put_leased(workshop.store, workshop.lease, config_of_gguf(header))


def _bring_inputs(store: Store, workshop: Workshop, made: Provenance) -> None:
    """What is not made by a step must be here; the texts that come with qm always are."""
    wanted = {value for step in made.steps for value in step.inputs.values()}
    for digest in sorted(each for each in wanted if not each.startswith(KEY_PREFIX)):
        workshop.lease.add(digest)
        if text := next((each for each in BUNDLED if each.digest == digest), None):
            text.put(workshop.store, workshop.lease)
        try:
            store.blobs.path(digest)
        except BlobMissing:
            name = next((name for name, each in made.files.items() if each == digest), digest)
            origin = made.repository or "the directory that it came from"
            raise InputsMissing(
                f"{name} is not here any more; create the model again from {origin}"
            ) from None
