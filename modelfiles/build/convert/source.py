"""A directory laid out as a Hugging Face repository: which weights it has, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .config import Json, read_json
from .errors import BadConfig, MissingWeights, PickleRefused, Truncated
from .shards import Stored, read_shard

_ADAPTER = "adapter_model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")
_NOT_THE_MODEL = ("adapter_", "consolidated", "optimizer", "training_args")


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a model's files are and what its config.json says."""

    path: Path
    config: Json

    @property
    def architecture(self) -> str:
        """The class that the model's makers run it with."""
        return architecture_of(self.config)

    def file(self, name: str) -> Path | None:
        """The file `name`, if the repository has it."""
        path = self.path / name
        return path if path.is_file() else None


def open_repository(path: Path) -> Repository:
    if not (path / "config.json").is_file():
        if (path / _ADAPTER).is_file():
            raise BadConfig("this is a LoRA: name it as ADAPTER, and what it was made for as FROM")
        raise BadConfig("there is no config.json, so this is no repository of a model")
    return Repository(path, read_json(path / "config.json"))


def architecture_of(config: Json) -> str:
    """The first of `architectures`; that of the language model where there are several models."""
    inner = config.get("text_config")
    for values in (inner if isinstance(inner, dict) else {}, config):
        match values.get("architectures"):
            case [str(name), *_]:
                return name
    raise BadConfig("config.json names no architecture: it has no list `architectures`")


def stored_tensors(path: Path) -> dict[str, Stored]:
    """Every tensor of the repository by name, file after file, each file sorted by name."""
    files = _weight_files(path)
    tensors = {stored.name: stored for file in files for stored in read_shard(file)}
    _check_against_index(path, tensors)
    if not tensors:
        raise MissingWeights("the repository has weight files but not one tensor in them")
    return tensors


def _weight_files(path: Path) -> list[Path]:
    if (path / _INDEX).is_file():
        names = sorted(set(_weight_map(path).values()))
        missing = [name for name in names if not (path / name).is_file()]
        if missing:
            raise MissingWeights(f"{_INDEX} names files that are not there: {', '.join(missing)}")
        return [path / name for name in names]
    found = [file for file in path.glob("*.safetensors") if file.is_file()]
    files = [file for file in found if file.name.startswith("model")] or [
        file for file in found if not file.name.startswith(_NOT_THE_MODEL)
    ]
    if not files:
        raise _without_safetensors(path)
    return sorted(files)


def _weight_map(path: Path) -> dict[str, str]:
    mapping = read_json(path / _INDEX).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise BadConfig(f"{_INDEX} has no weight_map")
    for file in mapping.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise BadConfig(f"{_INDEX} names {file!r}, which is no file of this repository")
    return mapping


def _without_safetensors(path: Path) -> Exception:
    for pattern in _PICKLES:
        for file in sorted(path.glob(pattern)):
            if not file.name.startswith(_NOT_THE_MODEL):
                return PickleRefused(file.name)
    if (path / _ADAPTER).is_file():
        return MissingWeights("the repository has no weights but those of a LoRA, an ADAPTER")
    return MissingWeights("the repository has no *.safetensors files")


def _check_against_index(path: Path, tensors: Iterable[str]) -> None:
    if not (path / _INDEX).is_file():
        return
    promised = set(_weight_map(path))
    missing, extra = sorted(promised.difference(tensors)), sorted(set(tensors) - promised)
    if missing:
        raise Truncated(f"the weight files lack {missing[0]!r}, which {_INDEX} promises")
    if extra:
        raise BadConfig(f"the weight files hold {extra[0]!r}, which {_INDEX} does not name")
