"""From a repository to a GGUF file: plan every tensor, check the plan, then write front to back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ..merge import with_adapters, with_deltas
from .checks import check_plan
from .config import forget_json
from .counts import Counts, count_parameters
from .errors import UnknownArchitecture
from .fallback import convert_with_extra, has_extra
from .families import family_of
from .family import Family
from .general import write_general
from .output import Entry, Laid, Output, Progress, write_gguf
from .pairs import Pairs
from .quantised import tensors_of
from .report import ConvertReport
from .source import Repository, open_repository
from .tensor import Kind, Tensor
from .unpickle import Weights

OutType: TypeAlias = Literal["auto", "f16", "bf16", "f32"]

_KINDS = {"f16": Kind.F16, "bf16": Kind.BF16, "f32": Kind.F32}
_FILE_TYPES = {Kind.F32: 0, Kind.F16: 1, Kind.BF16: 32}
_QUANT_VERSION = 2
_ALWAYS_F32 = ("ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")
_ALWAYS_F32_NAMES = ("position_embd.weight", "token_types.weight")


def architecture(source: Path) -> str:
    """GGUF's name for the repository's architecture; raises what `convert` would for it.

    Of an architecture that only the extra converts, the repository's own name.
    """
    name = open_repository(source).architecture
    try:
        return family_of(name).name()
    except UnknownArchitecture:
        if has_extra():
            return name
        raise


def convert(
    source: Path,
    out: Output,
    *,
    out_type: OutType = "auto",
    name: str = "",
    deltas: Sequence[Path] = (),
    merge_adapters: Sequence[Path] = (),
    allow_pickle: bool = False,
    scratch: Path | None = None,
    on_progress: Progress | None = None,
    on_laid_out: Laid | None = None,
) -> ConvertReport:
    """Writes the repository `source` as GGUF to `out`, the same bytes for the same input.

    `name` is the model's name where the repository does not say one. `auto` keeps the type that
    the repository has. `scratch` is where opened pickles and what the extra makes may lie for a
    while. `on_laid_out` is called where tensors follow one by one. Raises a ConversionError.
    """
    forget_json()  # of another time
    repository = _described(source, deltas)
    try:
        family = family_of(repository.architecture)(repository)
    except UnknownArchitecture as error:
        if deltas or merge_adapters:
            raise
        return convert_with_extra(
            source,
            out,
            architecture=error.architecture,
            out_type=out_type,
            name=name,
            scratch=scratch,
            on_progress=on_progress,
        )
    with tempfile.TemporaryDirectory(prefix="qm-convert-", dir=scratch) as folder:
        read = Weights(Path(folder), allow_pickle=allow_pickle).read
        weights = tensors_of(read(source), open_repository(source))
        weights = with_adapters(with_deltas(weights, deltas, read), merge_adapters)
        plan = _plan(family, weights, out_type)
        pairs = _pairs(family, plan, repository, name)
        forget_json()
        written = write_gguf(out, pairs, plan.entries, on_progress, on_laid_out)
    return ConvertReport(
        family.name(), plan.kind.value, len(plan.entries), plan.counts.total, written
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """Every tensor of the file, and what they are together."""

    entries: Sequence[Entry]
    kind: Kind
    counts: Counts


def _plan(family: Family, weights: Mapping[str, Tensor], out_type: OutType) -> _Plan:
    stored = {new: weight for old, weight in weights.items() if (new := family.kept_name(old))}
    kind = _KINDS.get(out_type) or _guessed(stored.values())
    entries = [
        Entry(new, tensor, _kind_of(new, tensor, kind)) for new, tensor in family.tensors(stored)
    ]
    check_plan(family, entries)
    counts = count_parameters((entry.name, entry.tensor.shape) for entry in entries)
    return _Plan(entries, kind, counts)


def _pairs(family: Family, plan: _Plan, repository: Repository, name: str) -> Pairs:
    pairs = Pairs(family.name())
    family.write_first(pairs)
    pairs.text("general.type", "model")
    write_general(pairs, repository.path, name, plan.counts)
    family.write_parameters(pairs, _FILE_TYPES[plan.kind])
    pairs.u32("general.quantization_version", _QUANT_VERSION)
    family.write_vocabulary(pairs)
    return pairs


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
