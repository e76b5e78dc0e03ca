"""Rotary position embeddings: how a repository describes them, and what GGUF says instead."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .config import Config, Json
from .errors import BadConfig
from .pairs import Pairs
from .tensor import Array, Tensor, of_array

_MAX_THETA = 1e15
_THETA = ("global_rope_theta", "rope_global_theta", "rope_theta", "rotary_emb_base")
_LOCAL_THETA = ("local_rope_theta", "rope_local_theta", "swa_rope_theta", "rope_local_base_freq")
_PARTIAL = ("partial_rotary_factor", "rotary_pct", "rope_pct", "rope_percent")


class Rope:
    """The parameters for all layers, and those of sliding layers where they differ."""

    def __init__(self, config: Config) -> None:
        found = config.table("rope_parameters") or config.table("rope_scaling")
        if "full_attention" not in found and "sliding_attention" not in found:
            found = _with_flat_values(found, config)
        self._sliding = _inner(found, "sliding_attention")
        self.values = Config(_inner(found, "full_attention") or found, "config.json: rope")

    @property
    def type(self) -> str:
        return (self.values.text("rope_type") or self.values.text("type")).lower()

    @property
    def theta(self) -> float | None:
        theta = self.values.number_or_none("rope_theta")
        if theta is not None and not 0 < theta < _MAX_THETA:
            raise BadConfig(f"config.json: rope_theta is {theta}, out of all proportion")
        return theta

    @property
    def partial_factor(self) -> float | None:
        return self.values.number_or_none("partial_rotary_factor")

    def write(self, pairs: Pairs) -> None:
        """The pairs that all families share."""
        factor = self.values.number_or_none("factor")
        if self.type in ("linear", "yarn") and factor is not None:
            pairs.text(".rope.scaling.type", self.type)
            pairs.f32(".rope.scaling.factor", factor)
        if self.type == "yarn" and factor is not None:
            self._write_yarn(pairs)
        if self.type in ("su", "longrope"):
            pairs.text(".rope.scaling.type", "longrope")
        if self.theta is not None:
            pairs.f32(".rope.freq_base", self.theta)
        local = Config(self._sliding, "config.json: rope").number_or_none("rope_theta")
        if local is not None:
            pairs.f32(".rope.freq_base_swa", local)

    def _write_yarn(self, pairs: Pairs) -> None:
        original = self.values.whole("original_max_position_embeddings")
        pairs.u32(".rope.scaling.original_context_length", original)
        for key, names in (
            ("yarn_ext_factor", ("extrapolation_factor",)),
            ("yarn_attn_factor", ("attention_factor", "attn_factor")),
            ("yarn_beta_fast", ("beta_fast",)),
            ("yarn_beta_slow", ("beta_slow",)),
        ):
            if (value := self.values.number_or_none(*names)) is not None:
                pairs.f32(f".rope.scaling.{key}", value)

    def llama3_factors(self, dimensions: int) -> Tensor | None:
        """By how much each frequency is slowed down, for Llama 3.1 and its kin."""
        if self.type != "llama3":
            return None
        base = self.theta or 10000.0
        factor = self.values.number_or_none("factor") or 8.0
        low = self.values.number_or_none("low_freq_factor") or 1.0
        high = self.values.number_or_none("high_freq_factor") or 4.0
        context = self.values.number_or_none("original_max_position_embeddings") or 8192
        if low == high:
            raise BadConfig("config.json: low_freq_factor and high_freq_factor are the same")
        exponents = np.arange(0, dimensions, 2, dtype=np.float32) / np.float32(dimensions)
        powers = np.power(base, exponents.astype(np.float64)).astype(np.float32)
        frequencies = np.float32(1) / powers
        return of_array(_slowed(frequencies, factor, low, high, context))


def _slowed(frequencies: Array, factor: float, low: float, high: float, context: float) -> Array:
    """The factors, rounded after each step as upstream's are."""
    single = np.float32
    lengths = (single(1) / frequencies) * single(2 * math.pi)
    share = (single(1) / lengths) * single(context)
    smooth = (share - single(low)) / single(high - low)
    middle = single(1) / ((single(1) - smooth) / single(factor) + smooth)
    outer = np.where(lengths > single(context / low), single(factor), middle)
    return np.where(lengths < single(context / high), single(1), outer).astype(np.float32)


def _with_flat_values(found: Json, config: Config) -> Json:
    """Older repositories say some of it at the root of config.json."""
    values = dict(found)
    flat: dict[str, Any] = {  # Any: JSON
        "rope_theta": config.find(*_THETA),
        "partial_rotary_factor": config.find(*_PARTIAL),
        "original_max_position_embeddings": config.find("original_max_position_embeddings"),
    }
    for name, value in flat.items():
        if value is not None:
            values.setdefault(name, value)
    if (local := config.find(*_LOCAL_THETA)) is not None:
        values["sliding_attention"] = {"rope_theta": local}
    return values


def _inner(values: Json, name: str) -> Json:
    inner = values.get(name)
    return inner if isinstance(inner, dict) else {}
