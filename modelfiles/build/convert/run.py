"""From a repository to a GGUF file: plan every tensor, check the plan, then write front to back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ..merge import with_adapters, with_deltas
from .checks import check_plan
from .counts import count_parameters
from .families import family_of
from .general import write_general
from .output import Entry, Output, Progress, write_gguf
from .pairs import Pairs
from .quantised import tensors_of
from .source import Repository, open_repository, stored_tensors
from .tensor import Kind, Tensor

OutType: TypeAlias = Literal["auto", "f16", "bf16", "f32"]

_KINDS = {"f16": Kind.F16, "bf16": Kind.BF16, "f32": Kind.F32}
_FILE_TYPES = {Kind.F32: 0, Kind.F16: 1, Kind.BF16: 32}
_QUANT_VERSION = 2
_ALWAYS_F32 = ("ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")
_ALWAYS_F32_NAMES = ("position_embd.weight", "token_types.weight")


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What came out of a conversion."""

    architecture: str
    file_type: str
    tensors: int
    parameters: int
    written_bytes: int


def architecture(source: Path) -> str:
    """GGUF's name for the repository's architecture; raises what `convert` would for it."""
    return family_of(open_repository(source).architecture).name()


def convert(
    source: Path,
    out: Output,
    *,
    out_type: OutType = "auto",
    name: str = "",
    deltas: Sequence[Path] = (),
    merge_adapters: Sequence[Path] = (),
    on_progress: Progress | None = None,
) -> ConvertReport:
    """Writes the repository `source` as GGUF to `out`, the same bytes for the same input.

    `name` is the model's name where the repository does not say one. `auto` keeps the type that
    the repository has. Raises a ConversionError.
    """
    repository = _described(source, deltas)
    family = family_of(repository.architecture)(repository)
    weights = tensors_of(stored_tensors(source), open_repository(source).config)
    weights = with_adapters(with_deltas(weights, deltas), merge_adapters)
    stored = {new: weight for old, weight in weights.items() if (new := family.kept_name(old))}
    kind = _KINDS.get(out_type) or _guessed(stored.values())
    entries = [
        Entry(new, tensor, _kind_of(new, tensor, kind)) for new, tensor in family.tensors(stored)
    ]
    check_plan(family, entries)
    counts = count_parameters((entry.name, entry.tensor.shape) for entry in entries)
    pairs = Pairs(family.name())
    pairs.text("general.type", "model")
    write_general(pairs, repository.path, name, counts)
    family.write_parameters(pairs, _FILE_TYPES[kind])
    pairs.u32("general.quantization_version", _QUANT_VERSION)
    family.write_vocabulary(pairs)
    written = write_gguf(out, pairs, entries, on_progress)
    return ConvertReport(family.name(), kind.value, len(entries), counts.total, written)


def _described(source: Path, deltas: Sequence[Path]) -> Repository:
    """Who says what the model is: the last delta that does, else the base."""
    for path in reversed(deltas):
        if (path / "config.json").is_file():
            return open_repository(path)
    return open_repository(source)


def _guessed(tensors: Iterable[Tensor]) -> Kind:
    """The kind of the first matrix of 16 bits."""
    for tensor in tensors:
        if len(tensor.shape) >= 2 and tensor.kind is not Kind.F32:
            return tensor.kind
    return Kind.F16


def _kind_of(name: str, tensor: Tensor, wanted: Kind) -> Kind:
    """llama.cpp wants vectors, norms and the choice among experts as F32."""
    if (
        len(tensor.shape) <= 1
        or name.endswith("_norm.weight")
        or not name.endswith(".weight")
        or name.endswith(_ALWAYS_F32)
        or name in _ALWAYS_F32_NAMES
    ):
        return Kind.F32
    return wanted
