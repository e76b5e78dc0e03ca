"""`QUANTIZE auto`: of the types that fit this machine, the one that measures best.

    sizes of all types (llama.cpp's dry run) ─ those that fit ─ the largest few, made and measured

A type that is much smaller than another that fits can't be better, so it is not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from qm.store.errors import QmError
from qm.store.gguf import Header

from ..quality import Quality
from ..quantization import Quantize

TYPES = (
    *("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_L", "IQ3_M"),
    *("Q3_K_M", "Q3_K_S", "IQ3_XXS", "Q2_K", "IQ2_M", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"),
)
"""What is considered. Full precision is not: Q8_0 can hardly be told from it, at half the size."""

CHUNKS = 8  # of the evaluation text: enough to tell types apart that are tried together
_TRIED = 3
_CLOSE = 0.85  # of the largest one's size: below it no type keeps up

Fits: TypeAlias = Callable[[Sequence[Header], int, int | None], str]
"""How a model of these headers would be placed were its weights of so many bytes, for a context of
so many tokens, or for the usual one; empty if it would not fit. `Room` has one."""


class NoTypeFits(QmError):
    """Even the smallest type is too large for this machine."""

    status = 507
    code = "no_type_fits"


@dataclass(frozen=True, slots=True)
class Room:
    """What this machine can hold, and for which context; `told` is that in words."""

    fits: Fits
    told: str
    n_ctx: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A type, the size of its weights, and how they would be placed."""

    quantize: Quantize
    size_bytes: int
    placed: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, why, and what each type that was tried measured."""

    candidate: Candidate
    reason: str
    measured: tuple[tuple[str, Quality], ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "type": self.candidate.quantize.type,
            "reason": self.reason,
            "measured": {
                name: {
                    "kld_mean": quality.kld_mean,
                    "perplexity": quality.perplexity,
                    "size_bytes": quality.size_bytes,
                }
                for name, quality in self.measured
            },
        }


def considered(wish: Quantize, *, with_imatrix: bool) -> list[Quantize]:
    """Every type that could be made, with the options that `auto` was given."""
    made = [replace(wish, type=name) for name in TYPES]
    return [each for each in made if with_imatrix or not each.needs_imatrix]


def fitting(
    sizes: Sequence[tuple[Quantize, int]], headers: Sequence[Header], room: Room
) -> list[Candidate]:
    """Those worth trying, the largest first. Raises NoTypeFits."""
    ordered = sorted(sizes, key=lambda each: -each[1])
    found: list[Candidate] = []
    for quantize, size_bytes in ordered:
        if found and (size_bytes < found[0].size_bytes * _CLOSE or len(found) == _TRIED):
            break
        if placed := room.fits(headers, size_bytes, room.n_ctx):
            found.append(Candidate(quantize, size_bytes, placed))
    if not found:
        quantize, size_bytes = ordered[-1]
        raise NoTypeFits(
            f"no type is small enough: the weights in {quantize.type} take {size_bytes} bytes, and "
            f"{room.told}; take a smaller model, or ask for less context (PARAMETER num_ctx)"
        )
    return found


def best(candidates: Sequence[Candidate], measured: Sequence[Quality], room: Room) -> Choice:
    """The least divergence from the base; the larger type where there is nothing to measure."""
    pairs = list(zip(candidates, measured, strict=False))
    candidate = min(pairs, key=_divergence)[0] if pairs else candidates[0]
    tried = tuple((each.quantize.type, quality) for each, quality in pairs)
    told = ", ".join(f"{name} {quality.kld_mean:.5f}" for name, quality in tried)
    why = f"divergence from the base: {told}" if told else "nothing to measure: it only embeds"
    reason = f"{room.told}; {candidate.quantize.type} fits {candidate.placed}; {why}"
    return Choice(candidate, reason, tried)


def _divergence(pair: tuple[Candidate, Quality]) -> float:
    return float("inf") if pair[1].kld_mean is None else pair[1].kld_mean
