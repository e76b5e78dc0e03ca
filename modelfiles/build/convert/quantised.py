"""Repositories whose weights are quantised already: their weights as numbers again.

Each method takes the tensors that belong to one weight and gives that weight, to be calculated when
it is read; what else the method stored is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from . import awq, bitsandbytes, compressed, gptq, scaled
from .config import Config, Json, read_json_if_there
from .errors import BadConfig, NotDequantizable
from .shards import Stored
from .source import Repository
from .tensor import Tensor

Checkpoint: TypeAlias = Mapping[str, Stored]

_METHODS: dict[str, Callable[[Checkpoint, Config], dict[str, Tensor]]] = {
    "gptq": gptq.dequantised,
    "awq": awq.dequantised,
    "bitsandbytes": bitsandbytes.dequantised,
    "fp8": scaled.fp8,
    "fbgemm_fp8": scaled.fp8,
    "modelopt": scaled.modelopt,
    "compressed-tensors": compressed.dequantised,
}
_REASONS = {
    "exl2": "EXL2 mixes widths row by row in the order of its GPU kernels; start from the "
    "repository that it was made from",
    "exl3": "EXL3 is decoded by its GPU kernels only; start from the repository it was made from",
    "mxfp4": "MXFP4 repositories are not supported yet; a GGUF of the model keeps their precision",
}


# Repositories from before config.json said it have a file of their own.
_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}


def tensors_of(stored: Checkpoint, repository: Repository) -> dict[str, Tensor]:
    """Every weight of the repository; raises NotDequantizable where it can't be undone."""
    config = repository.config
    table = config.get("quantization_config") or config.get("compression_config")
    if table is None:
        table = _of_its_own_file(repository)
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


def _of_its_own_file(repository: Repository) -> Json | None:
    for name, method in _FILES.items():
        if found := read_json_if_there(repository.path / name):
            inner = found.get("quantization")
            return {"quant_method": method} | (inner if isinstance(inner, dict) else found)
    return None


def _method(table: Json) -> str:
    if table.get("load_in_4bit") or table.get("load_in_8bit"):
        return "bitsandbytes"
    return str(table.get("quant_method") or "").lower()
