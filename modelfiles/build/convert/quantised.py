"""Repositories whose weights are quantised already: their weights as numbers again.

Each method takes the tensors that belong to one weight and gives that weight, to be calculated when
it is read; what else the method stored is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from . import awq, bitsandbytes, gptq, scaled
from .config import Config, Json
from .errors import BadConfig, NotDequantizable
from .shards import Stored
from .tensor import Tensor

Checkpoint: TypeAlias = Mapping[str, Stored]

_METHODS: dict[str, Callable[[Checkpoint, Config], dict[str, Tensor]]] = {
    "gptq": gptq.dequantised,
    "awq": awq.dequantised,
    "bitsandbytes": bitsandbytes.dequantised,
    "fp8": scaled.fp8,
    "fbgemm_fp8": scaled.fp8,
    "compressed-tensors": scaled.compressed,
}
_REASONS = {
    "exl2": "EXL2 mixes widths row by row in the order of its GPU kernels; start from the "
    "repository that it was made from",
    "exl3": "EXL3 is decoded by its GPU kernels only; start from the repository it was made from",
    "mxfp4": "MXFP4 repositories are not supported yet; a GGUF of the model keeps their precision",
}


def tensors_of(stored: Checkpoint, config: Json) -> dict[str, Tensor]:
    """Every weight of the repository; raises NotDequantizable where it can't be undone."""
    table = config.get("quantization_config") or config.get("compression_config")
    if table is None:
        return {name: entry.tensor() for name, entry in stored.items()}
    if not isinstance(table, dict):
        raise BadConfig("config.json: quantization_config is not an object")
    method = _method(table)
    if method not in _METHODS:
        known = ", ".join(_METHODS)
        reason = _REASONS.get(method, f"qm undoes {known}; start from the original repository")
        raise NotDequantizable(f"the weights are quantised with {method or '?'}: {reason}")
    return _METHODS[method](stored, Config(table, "config.json: quantization_config"))


def _method(table: Json) -> str:
    if table.get("load_in_4bit") or table.get("load_in_8bit"):
        return "bitsandbytes"
    return str(table.get("quant_method") or "").lower()
