"""Which files of a repository make up the model that was asked for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..errors import InvalidRequest, NotFound
from .reference import Reference, file_stem

PREFERENCE = (
    *("Q4_K_M", "Q4_K_XL", "Q4_K_L", "Q4_K_S", "Q5_K_M", "Q5_K_S", "IQ4_NL", "IQ4_XS", "MXFP4"),
    *("MXFP4_MOE", "Q4_0", "Q4_1", "Q4_K", "Q6_K", "Q5_0", "Q5_1", "Q5_K", "Q8_0", "Q3_K_L"),
    *("Q3_K_M", "Q3_K_S", "IQ3_M", "IQ3_S", "Q2_K", "IQ2_M", "BF16", "F16", "FP16", "F32", "FP32"),
)
"""What `hf.co/org/repo` without a quantisation means: the first of these that is there."""

_PROJECTORS = ("F16", "FP16", "BF16", "Q8_0", "F32", "FP32")
_QUANT = re.compile(
    r"(?<![A-Z0-9])(IQ[1-4]_(?:XXS|XS|S|M|NL)|Q[1-8]_(?:[01]|K(?:_(?:XXS|XS|S|M|L|XL|P))?)"
    r"|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|FP16|F32|FP32)(?![A-Z0-9])",
    re.IGNORECASE,
)
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


class NoSuchQuant(NotFound):
    """The repository has no such model; the message lists those that it has."""

    code = "no_such_quant"


class Ambiguous(InvalidRequest):
    """Several models fit what was asked for; the message lists them."""

    code = "ambiguous_model"


class Incomplete(NotFound):
    """A part of a split model is missing in the repository."""

    code = "incomplete_model"


class NoGguf(InvalidRequest):
    """The repository has weights, but they must be converted first; or none at all."""

    code = "no_gguf"


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file as the hub lists it. `digest` is known for large files only, `git_oid` for all."""

    path: str
    size_bytes: int
    digest: str | None
    git_oid: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One model of a repository, in one or more parts."""

    stem: str
    quant: str
    parts: tuple[RepoFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to fetch: the weights in order, and a projector where the model has one."""

    variant: Variant
    projector: RepoFile | None


def choose(
    files: Iterable[RepoFile], reference: Reference, memory_bytes: int | None = None
) -> Chosen:
    """The model that `reference` means. Raises NoSuchQuant, Ambiguous, Incomplete, NoGguf."""
    listed = list(files)
    found = variants(listed)
    if not found:
        raise _no_gguf(reference, listed)
    variant = _one(found, reference, memory_bytes)
    _check_parts(variant)
    return Chosen(variant, _projector(listed, variant))


def variants(files: Iterable[RepoFile]) -> list[Variant]:
    """Every model among the files, the smallest first; neither projectors nor imatrix data."""
    groups: dict[str, list[RepoFile]] = {}
    for file in files:
        if _is_gguf(file) and not _is_extra(file):
            groups.setdefault(_PART.sub("", file.path), []).append(file)
    made = [
        Variant(file_stem(parts[0].path), quant_of(parts[0].path), tuple(_in_order(parts)))
        for parts in groups.values()
    ]
    return sorted(made, key=lambda variant: (variant.size_bytes, variant.stem))


def quant_of(path: str) -> str:
    """The quantisation that a file's name or folder tells, in capitals; empty if neither does."""
    folder, _, _ = path.rpartition("/")
    for text in (file_stem(path), folder):
        if found := _QUANT.findall(text):
            return str(found[-1]).upper()
    return ""


def _one(found: list[Variant], reference: Reference, memory_bytes: int | None) -> Variant:
    if reference.file is not None:
        fitting = [v for v in found if reference.file in {part.path for part in v.parts}]
    elif reference.quant is not None:
        fitting = _asked_for(found, reference.quant)
    else:
        fitting = _preferred(found)
    if len(fitting) == 1:
        return fitting[0]
    table = listing(found, reference, memory_bytes)
    if not fitting:
        wanted = reference.quant or reference.file
        raise NoSuchQuant(f"{reference.repo} has no model '{wanted}'; it has:\n{table}")
    raise Ambiguous(f"{reference} could be more than one model; name one of:\n{table}")


def _asked_for(found: list[Variant], asked: str) -> list[Variant]:
    """By quantisation, else by file name, in any case."""
    wanted = asked.casefold()
    by_name = [v for v in found if file_stem(asked).casefold() == v.stem.casefold()]
    return by_name or [v for v in found if v.quant.casefold() == wanted]


def _preferred(found: list[Variant]) -> list[Variant]:
    """The best of the stated order; all, where the names tell nothing."""
    for quant in PREFERENCE:
        if same := [variant for variant in found if variant.quant == quant]:
            return same
    return found


def listing(found: list[Variant], reference: Reference, memory_bytes: int | None) -> str:
    """One line a model: how to ask for it, its size, and whether it fits in memory."""
    quants = [variant.quant for variant in found]
    rows = []
    for variant in found:
        short = variant.quant if variant.quant and quants.count(variant.quant) == 1 else None
        fits = ""
        if memory_bytes is not None:
            fits = "  fits this machine" if variant.size_bytes < memory_bytes else "  too large"
        asked = f"hf.co/{reference.repo}:{short or variant.stem}"
        rows.append((asked, f"{size_text(variant.size_bytes):>9}{fits}"))
    width = max(len(asked) for asked, _ in rows)
    return "\n".join(f"  {asked:<{width}}{rest}" for asked, rest in rows)


def size_text(size_bytes: int) -> str:
    for unit_bytes, unit in _UNITS:
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:.3g} {unit}"
    return f"{size_bytes} B"


def _check_parts(variant: Variant) -> None:
    last = _PART.search(variant.parts[-1].path)
    if last is None:
        return
    there = {int(match[1]) for part in variant.parts if (match := _PART.search(part.path))}
    missing = sorted(set(range(1, int(last[2]) + 1)) - there)
    if missing:
        numbers = ", ".join(str(number) for number in missing[:10])
        raise Incomplete(
            f"{variant.stem} comes in {int(last[2])} parts, the repository lacks {numbers}"
        )


def _projector(files: list[RepoFile], variant: Variant) -> RepoFile | None:
    """The most usual precision, from the model's folder before others."""
    found = [file for file in files if _is_gguf(file) and "mmproj" in file.path.lower()]
    folder = variant.parts[0].path.rpartition("/")[0]

    def rank(file: RepoFile) -> tuple[bool, int, str]:
        quant = quant_of(file.path)
        at = _PROJECTORS.index(quant) if quant in _PROJECTORS else len(_PROJECTORS)
        return file.path.rpartition("/")[0] != folder, at, file.path

    return min(found, key=rank, default=None)


def _in_order(parts: list[RepoFile]) -> list[RepoFile]:
    return sorted(parts, key=lambda part: part.path)


def _is_gguf(file: RepoFile) -> bool:
    return file.path.lower().endswith(".gguf")


def _is_extra(file: RepoFile) -> bool:
    """Comes along with a model, or was used to make one."""
    name = file.path.rpartition("/")[2].lower()
    return "mmproj" in name or "imatrix" in name


def _no_gguf(reference: Reference, files: list[RepoFile]) -> NoGguf:
    if any(file.path.endswith(_WEIGHTS) for file in files):
        whole = replace(reference, quant=None, file=None)
        return NoGguf(
            f"{reference.repo} has no GGUF but weights to make one from; try: qm pull {whole}"
            f" --quantize {reference.quant or 'Q4_K_M'}, or: qm create NAME --from {whole}"
        )
    return NoGguf(f"{reference.repo} has no model: neither GGUF nor safetensors")
