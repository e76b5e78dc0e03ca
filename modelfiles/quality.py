"""What a model was measured to be worth: a few numbers, kept in its config."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TypeAlias

Json: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Quality:
    """Perplexity over a text, divergence from a base model (None without one), size and speed."""

    perplexity: float
    perplexity_error: float
    size_bytes: int
    bits_per_weight: float
    prompt_tokens_per_s: float
    generated_tokens_per_s: float
    peak_memory_bytes: int | None = None
    kld_mean: float | None = None
    kld_p99: float | None = None
    top1_agreement: float | None = None
    tokens: int = 0
    text: str = ""
    base: str = ""

    def to_json(self) -> Json:
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}


def parse_quality(value: object) -> Quality | None:
    """What `to_json` gave; None for anything else, as strangers write configs too."""
    if not isinstance(value, dict):
        return None
    known = {each.name for each in fields(Quality)}
    said = {key: each for key, each in value.items() if key in known}
    texts = all(isinstance(said.get(key, ""), str) for key in ("text", "base"))
    numbers = [each for key, each in said.items() if key not in ("text", "base")]
    if not texts or not all(isinstance(each, int | float) for each in numbers):
        return None
    try:
        return Quality(**said)
    except TypeError:  # something that must be there is not
        return None
