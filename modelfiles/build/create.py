"""`qm create`: from a ModelSpec to a registered model.

spec → base layers (another model's, or GGUF files') → its changes → config → manifest
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from qm.store.errors import InvalidRequest
from qm.store.gguf import Header, read_header
from qm.store.image import (
    ADAPTER_TYPE,
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
from qm.store.layout import parse_digest
from qm.store.leases import hold
from qm.store.manifests import ModelNotFound, StoredManifest
from qm.store.name import InvalidName, Name
from qm.store.store import Store

from ..config import NEEDED_ARRAYS, Config, Facts, capabilities, facts_of, human_count
from ..model import ModelBroken
from ..parameters import to_json
from ..spec import ModelSpec, NotYet, Source
from ..template import Template
from .automatic import Room
from .draft import DraftUnfit, check_vocabularies
from .links import check_file_name
from .recommended import recommended
from .register import Layers, Progress, json_bytes, register
from .weights import (
    Built,
    NothingToQuantize,
    Order,
    Origin,
    build_weights,
    is_of_repository,
)

_MEDIA_TYPES = {"adapter": ADAPTER_TYPE, "mmproj": PROJECTOR_TYPE, "projector": PROJECTOR_TYPE}


class WrongFiles(InvalidRequest):
    """The files given don't make up one model."""

    code = "wrong_files"


@dataclass(frozen=True, slots=True)
class _File:
    """A GGUF of the store: what kind of layer it is and what its header says."""

    layer: Descriptor
    header: Header

    @property
    def split(self) -> tuple[int, int]:
        """Which part of how many it is, counted from 0."""
        number, count = (
            self.header.metadata.get("split.no"),
            self.header.metadata.get("split.count"),
        )
        if isinstance(number, int) and isinstance(count, int):
            return number, count
        return 0, 1


def create(
    store: Store,
    name: Name,
    spec: ModelSpec,
    on_progress: Progress,
    *,
    annotations: Mapping[str, str] | None = None,
    fresh: bool = False,
    origin: Origin | None = None,
    room: Room | None = None,
) -> Manifest:
    """The new model's manifest, registered under `name`; `annotations` say where it comes from.

    `fresh` builds anew what was built before. `origin` says what of the hub the files
    come from, `room` what the weights must fit where their type is left open.

    Raises NotYet, WrongFiles, ModelNotFound, BlobMissing, GgufInvalid, TemplateSyntaxError, and
    what `weights.build_weights` raises.
    Reads and writes files: call it in a job process or a thread.
    """
    spec.refuse_unperformable()
    if spec.template:
        from .jinja import check_template  # noqa: PLC0415  brings jinja2

        check_template(Template.of(spec.template))
    with hold(store.layout) as lease:
        layers = Layers(store, lease)
        base = _base(layers, spec)
        files = _files(layers, spec, on_progress)
        spec = _with_recommended(spec, files)
        order = _order(layers, spec, origin or Origin(), room, fresh=fresh)
        built = build_weights(layers, order, on_progress)
        facts = _facts(layers, base, changed=bool(files or built.provenance.steps))
        _check_adapters(files, facts)
        _add_draft(layers, spec, on_progress, fresh=fresh)
        _change(layers, spec)
        config = _with_history(_config(layers, spec, base, facts), built, base)
        return register(name, layers, config, on_progress, annotations=annotations).manifest


def _base(layers: Layers, spec: ModelSpec) -> Config:
    """Takes over the layers of the model that FROM names; its config, or an empty one."""
    names = [source for source in spec.from_ if not source.digest]
    if not names:
        return Config()
    stored = _find(layers.store, names[-1])
    layers.lease.add(*stored.manifest.blobs())
    layers.keep(stored.manifest.layers)
    config = Config.parse(layers.store.blobs.path(stored.manifest.config.digest).read_bytes())
    return replace(config, parent=str(stored.name))


def _find(store: Store, source: Source) -> StoredManifest:
    try:
        return store.manifests.read(Name.parse(source.text))
    except (InvalidName, ModelNotFound):
        if source.is_hub:
            raise NotYet(f"FROM {source.text}", source.line) from None
        raise


def _files(layers: Layers, spec: ModelSpec, on_progress: Progress) -> list[_File]:
    """Adds the GGUF files of FROM and ADAPTER as layers, the parts of a split model in order."""
    for source in spec.adapters:
        if not source.digest:
            raise WrongFiles(f"ADAPTER {source.text} names no file")
    given = (*spec.from_, *spec.adapters)
    sources = [source for source in given if source.digest and not is_of_repository(source)]
    if not sources:
        return []
    on_progress({"status": "parsing GGUF"})
    files = sorted((_file(layers, source) for source in sources), key=lambda file: file.split)
    layers.keep(file.layer for file in files)
    _check_parts(layers, [file for file in files if file.layer.media_type == MODEL_TYPE])
    return files


def _with_recommended(spec: ModelSpec, files: list[_File]) -> ModelSpec:
    """The spec with the sampling that the weights recommend, where it says nothing itself."""
    weights = [file for file in files if file.layer.media_type == MODEL_TYPE]
    values = recommended(weights[0].header) if weights else {}
    return replace(spec, parameters={**values, **spec.parameters})


def _order(
    layers: Layers, spec: ModelSpec, origin: Origin, room: Room | None, *, fresh: bool
) -> Order:
    """What is asked of the weights, by files that are leased."""
    order = Order(
        spec,
        _repository(layers, spec.from_),
        _repository(layers, spec.deltas),
        _repository(layers, spec.adapters),
        origin=origin,
        fresh=fresh,
        room=room and replace(room, n_ctx=_context(layers, spec)),
    )
    _check_kinds(layers, order)
    return order


def _add_draft(layers: Layers, spec: ModelSpec, on_progress: Progress, *, fresh: bool) -> None:
    """Builds the model of DRAFT like any other, and keeps its weights as what they are here."""
    if not spec.drafts:
        if spec.draft_quantize:
            raise NothingToQuantize("draft_quantize has no effect without DRAFT")
        return
    own = ModelSpec(from_=spec.drafts, quantize=spec.draft_quantize)
    built = Layers(layers.store, layers.lease)
    _base(built, own)
    _files(built, own, on_progress)
    order = Order(own, _repository(built, own.from_), fresh=fresh)
    _check_kinds(built, order)
    build_weights(built, order, on_progress)
    weights = built.of(MODEL_TYPE)
    if len(weights) != 1:
        raise DraftUnfit("a draft model must be one file of weights")
    (draft,) = weights
    path = layers.store.blobs.path
    check_vocabularies(
        read_header(path(layers.of(MODEL_TYPE)[0].digest), arrays=True),
        read_header(path(draft.digest), arrays=True),
    )
    layers.replace(DRAFT_TYPE, None)
    layers.new |= built.new
    layers.keep([replace(draft, media_type=DRAFT_TYPE)])


def _check_kinds(layers: Layers, order: Order) -> None:
    if order.repository and layers.of(MODEL_TYPE):
        raise WrongFiles("FROM has both GGUF and safetensors files; name only one kind of them")


def _repository(layers: Layers, sources: Iterable[Source]) -> dict[str, str]:
    """The files that make up a Hugging Face repository, leased, by name."""
    files = {each.text: each.digest for each in sources if each.digest and is_of_repository(each)}
    for name in files:
        if name.partition("-")[2] in files and name.partition("-")[0].isdecimal():
            raise WrongFiles("only one DELTA and one ADAPTER in safetensors can be added at a time")
    for name, digest in files.items():
        check_file_name(name)
        layers.lease.add(parse_digest(digest))
        layers.store.blobs.path(digest)
    return files


def _file(layers: Layers, source: Source) -> _File:
    digest = parse_digest(source.digest)
    layers.lease.add(digest)
    path = layers.store.blobs.path(digest)
    header = read_header(path)
    kind = "mmproj" if header.architecture == "clip" else str(header.metadata.get("general.type"))
    media_type = _MEDIA_TYPES.get(kind, MODEL_TYPE)
    file = _File(Descriptor(media_type, digest, path.stat().st_size), header)
    if header.architecture is None and file.split[0] == 0:  # later parts leave that to the first
        raise WrongFiles(f"{source.text} does not say its architecture (general.architecture)")
    return file


def _check_parts(layers: Layers, weights: list[_File]) -> None:
    """The weights are one whole model, and the only one."""
    everything = layers.of(MODEL_TYPE)
    if not everything:
        raise WrongFiles("there are no model weights among the files, only additions to a model")
    if not weights:
        return
    if len(everything) != len(weights):
        raise WrongFiles("FROM names two models; add files with weights to no other model")
    wanted = [(number, len(weights)) for number in range(len(weights))]
    if [file.split for file in weights] != wanted:
        raise WrongFiles(
            f"{len(weights)} file(s) with weights are given, which are not the parts of one model"
        )


def _check_adapters(files: list[_File], facts: Facts) -> None:
    for file in files:
        family = file.header.architecture
        if file.layer.media_type == ADAPTER_TYPE and family != facts.family:
            raise WrongFiles(f"the adapter is for {family}, the model is {facts.family}")


def _facts(layers: Layers, base: Config, *, changed: bool) -> Facts:
    """Those of the base, unless files change them or another tool made it without any."""
    if base.facts is not None and not changed:
        return base.facts
    blobs = layers.store.blobs
    weights = [
        read_header(blobs.path(layer.digest), arrays=NEEDED_ARRAYS)
        for layer in layers.of(MODEL_TYPE)
    ]
    projectors = [read_header(blobs.path(layer.digest)) for layer in layers.of(PROJECTOR_TYPE)]
    return facts_of(tuple(weights), tuple(projectors))


def _change(layers: Layers, spec: ModelSpec) -> None:
    """What the spec says besides FROM: parameters are merged, licences added, others replaced."""
    if spec.template is not None:
        layers.replace(TEMPLATE_TYPE, spec.template.encode() or None)
    if spec.system is not None:
        layers.replace(SYSTEM_TYPE, spec.system.encode() or None)
    if spec.parameters:
        merged = {**_inherited_parameters(layers), **to_json(spec.parameters)}
        layers.replace(PARAMS_TYPE, json_bytes(merged))
    if spec.messages:
        turns = [{"role": turn.role, "content": turn.content} for turn in spec.messages]
        layers.replace(MESSAGES_TYPE, json_bytes(turns))
    for text in spec.licenses:
        layers.add(LICENSE_TYPE, text.encode())


def _context(layers: Layers, spec: ModelSpec) -> int | None:
    """The context that the model is wished to have, if it says one."""
    said = {**_inherited_parameters(layers), **to_json(spec.parameters)}.get("num_ctx")
    return said if isinstance(said, int) and said > 0 else None


def _inherited_parameters(layers: Layers) -> dict[str, object]:
    try:
        document = json.loads(layers.read(PARAMS_TYPE) or b"{}")
    except (ValueError, RecursionError) as error:
        raise ModelBroken(f"the base model's parameters are no JSON: {error}") from error
    return document if isinstance(document, dict) else {}


def _config(layers: Layers, spec: ModelSpec, base: Config, facts: Facts) -> Config:
    own = layers.read(TEMPLATE_TYPE)
    template = Template.of(own.decode("utf-8", errors="replace")) if own else None
    return Config(
        family=facts.family,
        families=facts.families,
        parameter_size=human_count(facts.parameter_count),
        file_type=facts.file_type,
        provenance=base.provenance,
        quality=base.quality,
        renderer=base.renderer,
        parser=base.parser,
        requires=spec.requires or base.requires,
        parent=base.parent,
        capabilities=capabilities(facts, template),
        facts=facts,
    )


def _with_history(config: Config, built: Built, base: Config) -> Config:
    """How the weights were made and what they are worth, where that is not as the base has it."""
    if built.provenance.steps:
        config = replace(config, provenance=built.provenance.after(base.provenance), quality=None)
    return config if built.quality is None else replace(config, quality=built.quality)
