"""A model's config blob: Ollama's fields, and under `qm` what listings need without the weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

from qm.store.errors import QmError
from qm.store.gguf import Header

from .provenance import Provenance, parse_provenance
from .quality import Quality, parse_quality
from .template import Template

Json: TypeAlias = dict[str, object]

# The vocabulary entries by which llama.cpp knows that a model can fill in the middle.
_FIM_TOKENS = frozenset(
    {
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    }
)
_FIM_KEYS = ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id")
_TOKENS = "tokenizer.ggml.tokens"
NEEDED_ARRAYS = frozenset({_TOKENS})  # of a header, to know a model's facts
_POOLING_NONE = 0
UNKNOWN = "unknown"  # a quantisation that the GGUF does not name


class ConfigInvalid(QmError):
    """A model's config blob is not what the format says."""

    code = "model_config_invalid"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the weights themselves say, whatever template a Modelfile puts over them.

    `abilities` are those of the GGUF's own template, `modalities` of vision and audio.
    """

    family: str
    families: tuple[str, ...]
    parameter_count: int
    file_type: str
    context_length: int | None = None
    embedding_length: int | None = None
    pooled: bool = False
    fill_in: bool = False
    abilities: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """Everything in the config blob. `facts` is None where another tool made the model."""

    model_format: str = "gguf"
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    parent: str = ""
    capabilities: tuple[str, ...] = ()
    facts: Facts | None = None
    provenance: Provenance | None = None
    quality: Quality | None = None

    @classmethod
    def parse(cls, data: bytes) -> Config:
        """Raises ConfigInvalid for what is no JSON object; unknown and odd fields are left out."""
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ConfigInvalid(f"a model's config is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise ConfigInvalid("a model's config is not a JSON object")
        ours = document.get("qm")
        ours = ours if isinstance(ours, dict) else {}
        family = _text(document, "model_family")
        return cls(
            model_format=_text(document, "model_format") or "gguf",
            family=family,
            families=_texts(document, "model_families") or ((family,) if family else ()),
            parameter_size=_text(document, "model_type"),
            file_type=_text(document, "file_type"),
            renderer=_text(document, "renderer"),
            parser=_text(document, "parser"),
            requires=_text(document, "requires"),
            parent=_text(ours, "parent"),
            capabilities=_texts(ours, "capabilities"),
            facts=_facts(ours.get("facts")),
            provenance=parse_provenance(ours.get("provenance")),
            quality=parse_quality(ours.get("quality")),
        )

    def to_json(self, layers: Iterable[str]) -> bytes:
        """The blob's bytes; `layers` are the digests of the model's layers."""
        ours = {
            "parent": self.parent,
            "capabilities": list(self.capabilities),
            "facts": None if self.facts is None else asdict(self.facts),
            "provenance": None if self.provenance is None else self.provenance.to_json(),
            "quality": None if self.quality is None else self.quality.to_json(),
        }
        document: Json = {
            "model_format": self.model_format,
            "model_family": self.family,
            "model_families": list(self.families),
            "model_type": self.parameter_size,
            "file_type": self.file_type,
            "renderer": self.renderer,
            "parser": self.parser,
            "requires": self.requires,
            # of the image, not of the model: registries want some platform
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": list(layers)},
            "qm": {key: value for key, value in ours.items() if value},
        }
        kept = {key: value for key, value in document.items() if value}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()


def facts_of(headers: tuple[Header, ...], projectors: tuple[Header, ...] = ()) -> Facts:
    """What the parts of one model say; the first part has the metadata.

    The headers must be read with NEEDED_ARRAYS: the vocabulary tells about filling in.
    """
    first = headers[0]
    family = first.architecture or ""
    template = Template.of(first.chat_template) if first.chat_template else None
    pooling = first.metadata.get(f"{family}.pooling_type", _POOLING_NONE)
    return Facts(
        family=family,
        families=tuple(dict.fromkeys((family, *(each.architecture or "" for each in projectors)))),
        parameter_count=sum(header.parameter_count for header in headers),
        file_type=first.file_type_name or UNKNOWN,
        context_length=first.context_length,
        embedding_length=first.embedding_length,
        pooled=pooling != _POOLING_NONE,
        fill_in=_has_fim(first),
        abilities=abilities(template),
        modalities=_modalities(first, projectors),
    )


def abilities(template: Template | None) -> tuple[str, ...]:
    """The capabilities that a template gives, in the order of listings."""
    if template is None:
        return ()
    has = {
        "tools": template.has_tools,
        "insert": template.has_suffix,
        "thinking": template.has_thinking,
    }
    return tuple(name for name, there in has.items() if there)


def capabilities(facts: Facts, template: Template | None) -> tuple[str, ...]:
    """What the model can do; `template` is the Modelfile's, None for the GGUF's own."""
    able = facts.abilities if template is None else abilities(template)
    return (
        "embedding" if facts.pooled else "completion",
        *facts.modalities,
        *(("tools",) if "tools" in able else ()),
        *(("insert",) if "insert" in able or facts.fill_in else ()),
        *(("thinking",) if "thinking" in able else ()),
    )


def human_count(number: int) -> str:
    """A parameter count as people say it: 134.52M, 8.0B."""
    for limit, digits, unit in ((10**12, 1, "T"), (10**9, 1, "B"), (10**6, 2, "M")):
        if number >= limit:
            return f"{number / limit:.{digits}f}{unit}"
    return f"{number / 1000:.2f}K" if number >= 1000 else str(number)


def _has_fim(header: Header) -> bool:
    if any(key in header.metadata for key in _FIM_KEYS):
        return True
    tokens = header.metadata.get(_TOKENS)
    return isinstance(tokens, Iterable) and not _FIM_TOKENS.isdisjoint(map(str, tokens))


def _modalities(header: Header, projectors: tuple[Header, ...]) -> tuple[str, ...]:
    vision = f"{header.architecture}.vision.block_count" in header.metadata or any(
        each.metadata.get("clip.has_vision_encoder", True) for each in projectors
    )
    audio = any(each.metadata.get("clip.has_audio_encoder", False) for each in projectors)
    return (*(("vision",) if vision else ()), *(("audio",) if audio else ()))


def _facts(value: object) -> Facts | None:
    if not isinstance(value, dict):
        return None
    return Facts(
        family=_text(value, "family"),
        families=_texts(value, "families"),
        parameter_count=_count(value, "parameter_count") or 0,
        file_type=_text(value, "file_type"),
        context_length=_count(value, "context_length"),
        embedding_length=_count(value, "embedding_length"),
        pooled=value.get("pooled") is True,
        fill_in=value.get("fill_in") is True,
        abilities=_texts(value, "abilities"),
        modalities=_texts(value, "modalities"),
    )


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _texts(document: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = document.get(key)
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _count(document: Mapping[str, object], key: str) -> int | None:
    value = document.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
