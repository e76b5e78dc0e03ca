"""Ears of a few kilobytes for the tiny llama: Whisper's encoder with one layer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import gguf
import numpy as np

from ..runner.tiny_projector import FEED, TEXT_WIDTH, WIDTH

_MEL_BINS, _POSITIONS, _STACKED = 128, 1500, 50
_SQUARE, _LINE = (WIDTH, WIDTH), (WIDTH,)
_SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "a.conv1d.1.weight": (WIDTH, _MEL_BINS, 3),
    "a.conv1d.1.bias": (WIDTH, 1),
    "a.conv1d.2.weight": (WIDTH, WIDTH, 3),
    "a.conv1d.2.bias": (WIDTH, 1),
    "a.position_embd.weight": (_POSITIONS, WIDTH),
    "a.post_ln.weight": _LINE,
    "a.post_ln.bias": _LINE,
    **{f"a.blk.0.attn_{part}.weight": _SQUARE for part in ("q", "k", "v", "out")},
    **{f"a.blk.0.attn_{part}.bias": _LINE for part in ("q", "v", "out")},
    **{f"a.blk.0.ln{n}.{kind}": _LINE for n in (1, 2) for kind in ("weight", "bias")},
    "a.blk.0.ffn_up.weight": (FEED, WIDTH),
    "a.blk.0.ffn_up.bias": (FEED,),
    "a.blk.0.ffn_down.weight": (WIDTH, FEED),
    "a.blk.0.ffn_down.bias": _LINE,
    "mm.a.norm_pre.weight": (WIDTH * _STACKED,),
    "mm.a.mlp.1.weight": (2 * FEED, WIDTH * _STACKED),
    "mm.a.norm_mid.weight": (FEED,),
    "mm.a.mlp.2.weight": (TEXT_WIDTH, FEED),
}


def write_tiny_ears(path: Path) -> None:
    """Weights out of a fixed seed, with Ultravox' projection."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_audio_encoder", True)
    writer.add_string("clip.projector_type", "ultravox")
    writer.add_float32("clip.audio.attention.layer_norm_epsilon", 1e-5)
    for name, number in {
        "embedding_length": WIDTH,
        "feed_forward_length": FEED,
        "projection_dim": TEXT_WIDTH,
        "block_count": 1,
        "attention.head_count": 2,
        "num_mel_bins": _MEL_BINS,
        "projector.stack_factor": _STACKED,
    }.items():
        writer.add_uint32(f"clip.audio.{name}", number)
    random = np.random.default_rng(7)
    for name, shape in _SHAPES.items():
        kind = np.float16 if name.startswith("a.conv") and len(shape) == 3 else np.float32
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
