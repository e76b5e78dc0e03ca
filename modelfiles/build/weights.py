"""From what FROM gives to the weights that were asked for: plan, perform, put in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qm.store.errors import InvalidRequest
from qm.store.gguf import Header, read_header
from qm.store.image import ADAPTER_TYPE, MODEL_TYPE, Descriptor
from qm.store.layout import parse_digest
from qm.store.store import put_leased

from ..config import facts_of
from ..provenance import Provenance, StepRecord
from ..quality import Quality
from ..quantization import AUTO, FULL_PRECISION, parse_quantize, tensor_type_name
from ..spec import ModelSpec, Source, TensorType
from .automatic import Room
from .choosing import Chooser
from .idle import unmatched, without_effect
from .links import PICKLE, REPOSITORY_ENDINGS
from .plan import ADAPTER_FOLDER, DELTA_FOLDER, Given, Plan, StepKind, Wishes, plan, within
from .register import Layers, Progress
from .steps import PERFORMERS, tools
from .texts import CALIBRATION, EVALUATION
from .workshop import Done, Workshop

EVALUATE_CHUNKS = 16  # of the text that comes with qm: the same everywhere, as a step's result is


class NothingToQuantize(InvalidRequest):
    """Instructions about weights in a Modelfile that does nothing to them."""

    code = "nothing_to_quantize"


class NothingToChooseBy(InvalidRequest):
    """A type shall be chosen by who knows nothing about the machine."""

    code = "nothing_to_choose_by"


class NeedsRepository(InvalidRequest):
    """What can only be added to a repository's weights was given for something else."""

    code = "needs_repository"


class NothingToMerge(InvalidRequest):
    """An adapter shall become part of the weights where there is none that could."""

    code = "nothing_to_merge"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where files of the hub come from: the repository, its commit, and what else was named."""

    repository: str = ""
    commit: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """What a create asks of the weights. `fresh` does every step anew; `room` is what a type that
    is left open must fit.
    """

    spec: ModelSpec
    repository: Mapping[str, str]
    delta: Mapping[str, str] = field(default_factory=dict)
    adapter: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    fresh: bool = False
    room: Room | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """How the weights were made, and what they were measured to be worth, if they were."""

    provenance: Provenance
    quality: Quality | None = None


def is_of_repository(source: Source) -> bool:
    """Whether a file is one of a Hugging Face repository, by its name."""
    name = source.text.replace("\\", "/").rpartition("/")[2]
    return name.lower().endswith(REPOSITORY_ENDINGS) or PICKLE.fullmatch(name) is not None


def is_computed(spec: ModelSpec) -> bool:
    """Whether building it takes steps, not only layers put beside each other."""
    sources = (*spec.from_, *spec.deltas, *spec.adapters, *spec.drafts)
    return any((spec.quantize, spec.draft_quantize, *map(is_of_repository, sources)))


def build_weights(layers: Layers, order: Order, on_progress: Progress) -> Built:
    """Puts what was built in the place of the weights; tells how it was made.

    Raises NeedsRepository, NothingToMerge, and what planning and the steps raise.
    """
    workshop = Workshop(layers.store, layers.lease, on_progress, PERFORMERS, fresh=order.fresh)
    notes = _notes(layers, order)
    for note in notes:
        on_progress({"status": f"note: {note}"})
    planned, choice = _performed(layers, order, workshop)
    _tell_unmatched(workshop, order.spec)
    if planned.steps:
        _put_in_place(layers, [workshop.digest(part) for part in planned.weights])
    for adapter in planned.adapters:
        digest = workshop.digest(adapter)
        layers.keep([Descriptor(ADAPTER_TYPE, digest, layers.store.blobs.size(digest))])
    layers.new.update(each.output for each in workshop.done if not each.cached)
    wanted = (*planned.weights, *planned.adapters)
    made = Provenance(
        repository=order.origin.repository,
        commit=order.origin.commit,
        files={
            **order.repository,
            **within(DELTA_FOLDER, order.delta),
            **within(ADAPTER_FOLDER, order.adapter),
        },
        steps=tuple(_record(each) for each in workshop.leading_to(wanted)),
        sources=order.origin.sources,
        choice=choice,
        notes=notes,
    )
    return Built(made, workshop.measured(planned.steps))


def _performed(
    layers: Layers, order: Order, workshop: Workshop
) -> tuple[Plan, Mapping[str, object]]:
    """The plan, with every step done; and what was chosen where the type was left open."""
    spec, versions = order.spec, tools()
    given = _given(layers, order)
    if not spec.quantize:
        _refuse_idle(spec)
    wishes = _wishes(layers, spec)
    if wishes.quantize is not None and wishes.quantize.type == AUTO:
        for text in (CALIBRATION, EVALUATION):
            text.put(layers.store, layers.lease)
        room = order.room
        if room is None:
            raise NothingToChooseBy("QUANTIZE auto needs to know this machine's memory")
        chooser = Chooser(workshop, wishes, versions, room, EVALUATION.digest)
        chosen = chooser.choose(given)
        return chosen.plan, chosen.choice.to_json()
    planned = plan(given, wishes, versions)
    for sentence in without_effect(given, wishes, planned, CALIBRATION.digest):
        workshop.on_progress({"status": f"note: {sentence}"})
    for text in (CALIBRATION, EVALUATION):
        if any(text.digest in step.inputs.values() for step in planned.steps):
            text.put(layers.store, layers.lease)
    workshop.perform_all(planned.steps)
    return planned, {}


def _tell_unmatched(workshop: Workshop, spec: ModelSpec) -> None:
    """Of what was quantised before; whoever quantises now tells it when he begins."""
    for each in workshop.done:
        if each.cached and each.step.kind == StepKind.QUANTIZE and spec.tensor_types:
            tensors = read_header(workshop.path(each.output)).tensors
            for sentence in unmatched(spec.tensor_types, (tensor.name for tensor in tensors)):
                workshop.on_progress({"status": f"note: {sentence}"})


def _notes(layers: Layers, order: Order) -> tuple[str, ...]:
    """What the repository's model does that llama.cpp can't."""
    from .convert.differences import differences  # noqa: PLC0415  brings numpy

    config = order.repository.get("config.json")
    return tuple(differences(layers.store.blobs.path(config))) if config else ()


def _refuse_idle(spec: ModelSpec) -> None:
    """Raises NothingToQuantize for an instruction that would have no effect."""
    said = {
        "TENSOR_TYPE": spec.tensor_types,
        "IMATRIX": spec.imatrix or spec.imatrix_file,
        "CALIBRATION": spec.calibration,
    }
    for keyword, value in said.items():
        if value:
            raise NothingToQuantize(f"{keyword} has no effect without QUANTIZE")


def _given(layers: Layers, order: Order) -> Given:
    if order.spec.merge and not order.adapter:
        raise NothingToMerge("--merge has no effect without an ADAPTER in PEFT's format")
    if order.repository:
        return Given(
            repository=order.repository,
            delta=order.delta,
            adapter=order.adapter,
            merge=order.spec.merge,
            allow_pickle=order.spec.allow_pickle,
            name=_name(order),
        )
    if order.delta or (order.adapter and order.spec.merge):
        raise NeedsRepository(
            "a DELTA and an ADAPTER that is merged need the repository of their base in FROM: "
            "a directory with its config.json and safetensors"
        )
    weights = layers.of(MODEL_TYPE)
    headers = [read_header(layers.store.blobs.path(each.digest)) for each in weights]
    facts = facts_of(tuple(headers)) if headers else None
    return Given(
        weights=tuple(each.digest for each in weights),
        adapter=order.adapter,
        described=_described(layers, headers) if order.adapter and headers else "",
        name=_name(order),
        type=_type(headers),
        generates=facts is None or not facts.pooled,
    )


def _described(layers: Layers, headers: list[Header]) -> str:
    """The digest of a config.json that says what the GGUF is."""
    from .convert.gguf_config import config_of_gguf  # noqa: PLC0415  brings numpy

    data = config_of_gguf(headers[0])
    return put_leased(layers.store, layers.lease, data)[0]


def _type(headers: list[Header]) -> str:
    """The file type; told from the tensors where a file of floats doesn't say it."""
    if headers and headers[0].file_type_name:
        return headers[0].file_type_name
    kinds = {tensor.type for header in headers for tensor in header.tensors}
    return min(kinds & FULL_PRECISION, default="") if kinds <= FULL_PRECISION else ""


def _wishes(layers: Layers, spec: ModelSpec) -> Wishes:
    return Wishes(
        quantize=parse_quantize(spec.quantize) if spec.quantize else None,
        tensor_types=tuple(
            TensorType(each.pattern, tensor_type_name(each.type)) for each in spec.tensor_types
        ),
        imatrix=_kept(layers, spec.imatrix_file),
        use_imatrix=spec.imatrix.lower() != "none",
        calibration=_kept(layers, spec.calibration) or CALIBRATION.digest,
        evaluation=EVALUATION.digest if spec.evaluate else "",
        chunks=EVALUATE_CHUNKS if spec.evaluate else 0,
    )


def _name(order: Order) -> str:
    """The repository's own name, for models that don't say theirs."""
    return order.origin.repository.rpartition("/")[2]


def _kept(layers: Layers, source: Source | None) -> str:
    """The digest of a file that came along, leased; empty if none did."""
    if source is None:
        return ""
    digest = parse_digest(source.digest)
    layers.lease.add(digest)
    layers.store.blobs.path(digest)
    return digest


def _put_in_place(layers: Layers, digests: list[str]) -> None:
    layers.replace(MODEL_TYPE, None)
    sizes = [(digest, layers.store.blobs.size(digest)) for digest in digests]
    layers.keep(Descriptor(MODEL_TYPE, digest, size_bytes) for digest, size_bytes in sizes)


def _record(done: Done) -> StepRecord:
    step = done.step
    return StepRecord(
        step.kind, step.tool, step.key, dict(step.inputs), dict(step.parameters), done.output
    )
