"""What a manifest means: the files of a model, and how it wants to be talked to."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from qm.store.errors import QmError
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
from qm.store.manifests import StoredManifest
from qm.store.name import Name
from qm.store.store import Store

from .config import UNKNOWN, Config, abilities, capabilities, facts_of, human_count
from .quality import Quality
from .spec import Turn
from .template import Template

MAX_TEXT_BYTES = 8 << 20  # of a template, a system text, a license…


class ModelBroken(QmError):
    """A model's manifest names something that can't be used as what it should be."""

    code = "model_broken"


@dataclass(frozen=True, slots=True)
class Details:
    """What listings say about a model."""

    parent_model: str
    format: str
    family: str
    families: tuple[str, ...]
    parameter_size: str
    quantization_level: str
    context_length: int | None = None
    embedding_length: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A model as a listing shows it, told without opening its weights."""

    name: Name
    digest: str
    size_bytes: int
    modified_s: float
    details: Details
    capabilities: tuple[str, ...]
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be loaded. Paths are of blobs, absolute; `weights` has all parts in order.

    `template` is what renders prompts: the Modelfile's (`own_template` too then), else the GGUF's.
    `parameters` is the JSON that was stored; other tools write it too, so check it before use.
    """

    name: Name
    digest: str
    size_bytes: int
    modified_s: float
    weights: tuple[Path, ...]
    weights_digest: str
    projectors: tuple[Path, ...]
    adapters: tuple[Path, ...]
    draft: Path | None
    header: Header
    config: Config
    details: Details
    capabilities: tuple[str, ...]
    template: Template | None
    own_template: Template | None
    system: str
    parameters: dict[str, object]
    messages: tuple[Turn, ...]
    licenses: tuple[str, ...]


def load_model(store: Store, name: Name) -> Model:
    """The model `name`. Raises ModelNotFound, BlobMissing, BlobChanged, GgufInvalid, ModelBroken.

    Reads files: call it in a thread.
    """
    stored = store.manifests.read(name)
    layers = _Layers(store, stored)
    weights = layers.paths(MODEL_TYPE)
    if not weights:
        raise ModelBroken(f"model '{stored.name.short}' has no weights")
    header = _header(weights[0], layers.digests(MODEL_TYPE)[0])
    own = layers.text(TEMPLATE_TYPE)
    own_template = Template.of(own) if own else None
    builtin = Template.of(header.chat_template) if header.chat_template else None
    config = _known(layers.config(), header, own_template)
    drafts = layers.paths(DRAFT_TYPE)
    return Model(
        name=stored.name,
        digest=stored.digest,
        size_bytes=size_bytes(stored.manifest),
        modified_s=stored.modified_s,
        weights=weights,
        weights_digest=layers.digests(MODEL_TYPE)[0],
        projectors=layers.paths(PROJECTOR_TYPE),
        adapters=layers.paths(ADAPTER_TYPE),
        draft=drafts[0] if drafts else None,
        header=header,
        config=config,
        details=_details(config),
        capabilities=config.capabilities,
        template=own_template or builtin,
        own_template=own_template,
        system=layers.text(SYSTEM_TYPE),
        parameters=layers.parameters(),
        messages=layers.messages(),
        licenses=layers.texts(LICENSE_TYPE),
    )


def summarize(store: Store, stored: StoredManifest) -> Summary:
    """What listings need, from the manifest and its config alone.

    For a model that another tool made, the capabilities are those of its template.
    """
    layers = _Layers(store, stored)
    config = layers.config()
    able = config.capabilities
    if not able:
        own = layers.text(TEMPLATE_TYPE)
        able = ("completion", *abilities(Template.of(own) if own else None))
    return Summary(
        name=stored.name,
        digest=stored.digest,
        size_bytes=size_bytes(stored.manifest),
        modified_s=stored.modified_s,
        details=_details(config),
        capabilities=able,
        quality=config.quality,
    )


def size_bytes(manifest: Manifest) -> int:
    """All that the model's blobs take, shared ones included."""
    return manifest.config.size_bytes + sum(layer.size_bytes for layer in manifest.layers)


@dataclass(frozen=True, slots=True)
class _Layers:
    """The layers of one stored model, by their media type."""

    store: Store
    stored: StoredManifest

    def of(self, media_type: str) -> tuple[Descriptor, ...]:
        return self.stored.manifest.layers_of(media_type)

    def digests(self, media_type: str) -> tuple[str, ...]:
        return tuple(layer.digest for layer in self.of(media_type))

    def paths(self, media_type: str) -> tuple[Path, ...]:
        return tuple(self.store.blobs.path(digest) for digest in self.digests(media_type))

    def texts(self, media_type: str) -> tuple[str, ...]:
        return tuple(
            self._bytes(layer).decode("utf-8", errors="replace") for layer in self.of(media_type)
        )

    def text(self, media_type: str) -> str:
        """The last one, empty if there is none."""
        return (self.texts(media_type) or ("",))[-1]

    def config(self) -> Config:
        return Config.parse(self._bytes(self.stored.manifest.config))

    def parameters(self) -> dict[str, object]:
        document = self._json(PARAMS_TYPE)
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise self._broken("its parameters are no JSON object")
        return document

    def messages(self) -> tuple[Turn, ...]:
        document = self._json(MESSAGES_TYPE)
        if document is None:
            return ()
        if not isinstance(document, list):
            raise self._broken("its messages are no JSON array")
        return tuple(
            Turn(str(each.get("role", "")), str(each.get("content", "")))
            for each in document
            if isinstance(each, dict)
        )

    def _json(self, media_type: str) -> object:
        layers = self.of(media_type)
        if not layers:
            return None
        try:
            document: object = json.loads(self._bytes(layers[-1]))
        except (ValueError, RecursionError) as error:
            raise self._broken(f"{media_type} is no JSON") from error
        return document

    def _bytes(self, layer: Descriptor) -> bytes:
        path = self.store.blobs.path(layer.digest)
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise self._broken(f"{layer.media_type} is longer than {MAX_TEXT_BYTES} bytes")
        return path.read_bytes()

    def _broken(self, reason: str) -> ModelBroken:
        return ModelBroken(f"model '{self.stored.name.short}' is broken: {reason}")


@lru_cache(maxsize=32)
def _header(path: Path, digest: str) -> Header:
    """Of a blob, which never changes under its digest."""
    assert path.name.endswith(digest[-64:])
    return read_header(path)


def _known(config: Config, header: Header, own: Template | None) -> Config:
    """The config with what another tool left out told from the weights."""
    if config.facts is not None and config.capabilities:
        return config
    facts = facts_of((header,))
    return replace(
        config,
        family=config.family or facts.family,
        families=config.families or facts.families,
        parameter_size=config.parameter_size or human_count(facts.parameter_count),
        file_type=config.file_type or facts.file_type,
        capabilities=capabilities(facts, own),
        facts=facts,
    )


def _details(config: Config) -> Details:
    facts = config.facts
    return Details(
        parent_model=config.parent,
        format=config.model_format,
        family=config.family,
        families=config.families,
        parameter_size=config.parameter_size,
        quantization_level=config.file_type or UNKNOWN,
        context_length=facts.context_length if facts else None,
        embedding_length=facts.embedding_length if facts else None,
    )
