"""The `general.*` pairs: who made the model, from what, under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from gguf import Metadata, size_label

from .counts import Counts
from .errors import BadConfig
from .pairs import Pairs

_MAX_CARD_BYTES = 1 << 20
_SAMPLING = {
    "sampling_sequence": "sampling.sequence",
    "sampling_top_k": "sampling.top_k",
    "sampling_top_p": "sampling.top_p",
    "sampling_min_p": "sampling.min_p",
    "sampling_xtc_probability": "sampling.xtc_probability",
    "sampling_xtc_threshold": "sampling.xtc_threshold",
    "sampling_temp": "sampling.temp",
    "sampling_penalty_last_n": "sampling.penalty_last_n",
    "sampling_penalty_repeat": "sampling.penalty_repeat",
    "sampling_mirostat": "sampling.mirostat",
    "sampling_mirostat_tau": "sampling.mirostat_tau",
    "sampling_mirostat_eta": "sampling.mirostat_eta",
}
_WHOLE = ("sampling_top_k", "sampling_penalty_last_n", "sampling_mirostat")
_BEFORE_SIZE = (
    "name",
    "author",
    "version",
    "organization",
    "finetune",
    "basename",
    "description",
    "quantized_by",
    "size_label",
)
_RENAMED = {
    "license_name": "license.name",
    "license_link": "license.link",
    "source_url": "source.url",
    "source_doi": "source.doi",
    "source_uuid": "source.uuid",
    "source_repo_url": "source.repo_url",
}
_AFTER_LICENSE = (
    "license_name",
    "license_link",
    "source_url",
    "source_doi",
    "source_uuid",
    "source_repo_url",
)
_RELATED = (
    "name",
    "author",
    "version",
    "organization",
    "description",
    "url",
    "doi",
    "uuid",
    "repo_url",
)


def write_general(pairs: Pairs, repository: Path, name: str, counts: Counts) -> None:
    """`name` stands in where the repository does not name itself."""
    metadata = _metadata(repository, name, counts.total)
    if metadata.size_label is None and counts.total:
        metadata.size_label = size_label(
            counts.total, counts.shared, counts.of_an_expert, counts.experts
        )
    _write_sampling(pairs, metadata)
    for field in _BEFORE_SIZE:
        _write_text(pairs, f"general.{field}", getattr(metadata, field))
    match metadata.license:
        case [*several]:
            _write_text(pairs, "general.license", ",".join(map(str, several)))
        case single:
            _write_text(pairs, "general.license", single)
    for field in _AFTER_LICENSE:
        _write_text(pairs, f"general.{_RENAMED[field]}", getattr(metadata, field))
    _write_related(pairs, "base_model", metadata.base_models)
    _write_related(pairs, "dataset", metadata.datasets)
    for field in ("tags", "languages"):
        pairs.texts(f"general.{field}", [str(item) for item in getattr(metadata, field) or ()])


def _metadata(repository: Path, name: str, total: int) -> Metadata:
    card = repository / "README.md"
    readable = card.is_file() and card.stat().st_size <= _MAX_CARD_BYTES
    try:
        found = Metadata.apply_metadata_heuristic(
            Metadata(),
            Metadata.load_model_card(repository) if readable else {},
            Metadata.load_hf_parameters(repository),
            Path(name) if name else None,
            total,
        )
    except (ValueError, TypeError, AttributeError, IndexError, yaml.YAMLError) as error:
        raise BadConfig(f"README.md or config.json can't be understood: {error!r}") from error
    _add_sampling(found, Metadata.load_generation_config(repository))
    return found


def _add_sampling(metadata: Metadata, config: Mapping[str, Any]) -> None:  # Any: JSON
    """What generation_config.json recommends."""
    for name in ("top_k", "top_p", "min_p", "xtc_probability", "xtc_threshold"):
        setattr(metadata, f"sampling_{name}", config.get(name))
    metadata.sampling_sequence = config.get("sequence")
    metadata.sampling_temp = config.get("temperature")
    metadata.sampling_penalty_last_n = config.get("penalty_last_n")
    repeat = config.get("repetition_penalty")
    metadata.sampling_penalty_repeat = config.get("penalty_repeat", repeat)
    for name in ("mirostat", "mirostat_tau", "mirostat_eta"):
        setattr(metadata, f"sampling_{name}", config.get(name))


def _write_sampling(pairs: Pairs, metadata: Metadata) -> None:
    for field, key in _SAMPLING.items():
        value = getattr(metadata, field)
        if isinstance(value, str):
            pairs.text(f"general.{key}", value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            continue
        elif field in _WHOLE:
            pairs.i32(f"general.{key}", int(value))
        else:
            pairs.f32(f"general.{key}", value)


def _write_text(pairs: Pairs, key: str, value: object) -> None:
    if value is not None:
        pairs.text(key, str(value))


def _write_related(pairs: Pairs, what: str, entries: list[dict[str, Any]] | None) -> None:
    if entries is None:
        return
    pairs.u32(f"general.{what}.count", len(entries))
    for number, entry in enumerate(entries):
        for field in _RELATED:
            if isinstance(entry, dict) and field in entry:
                _write_text(pairs, f"general.{what}.{number}.{field}", entry[field])
