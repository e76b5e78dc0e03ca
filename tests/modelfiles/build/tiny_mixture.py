"""A llama with experts, a few dozen megabytes, whose every number follows from its place."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from .tiny_llama import HIDDEN, VOCABULARY, add_sizes, add_tokenizer, finish, numbers

BLOCKS, EXPERTS, USED, FEED = 8, 16, 2, 384


def write_tiny_mixture(path: Path) -> None:
    """Eight blocks of sixteen experts each, of which a token uses two."""
    writer = gguf.GGUFWriter(path, "llama")
    add_sizes(writer, BLOCKS, FEED)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(USED)
    writer.add_file_type(1)
    add_tokenizer(writer, VOCABULARY)
    for place, (name, shape) in enumerate(_tensors()):
        flat = name.endswith("norm.weight")
        half = numbers(shape, place).astype(np.float16)
        writer.add_tensor(name, np.ones(shape, np.float32) if flat else half)
    finish(writer)


def _tensors() -> list[tuple[str, tuple[int, ...]]]:
    tensors: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (VOCABULARY, HIDDEN))]
    for block in range(BLOCKS):
        shapes: dict[str, tuple[int, ...]] = {
            "attn_norm": (HIDDEN,),
            "attn_q": (HIDDEN, HIDDEN),
            "attn_k": (HIDDEN // 2, HIDDEN),
            "attn_v": (HIDDEN // 2, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN),
            "ffn_norm": (HIDDEN,),
            "ffn_gate_inp": (EXPERTS, HIDDEN),
            "ffn_gate_exps": (EXPERTS, FEED, HIDDEN),
            "ffn_up_exps": (EXPERTS, FEED, HIDDEN),
            "ffn_down_exps": (EXPERTS, HIDDEN, FEED),
        }
        tensors += [(f"blk.{block}.{name}.weight", shape) for name, shape in shapes.items()]
    return [*tensors, ("output_norm.weight", (HIDDEN,)), ("output.weight", (VOCABULARY, HIDDEN))]
