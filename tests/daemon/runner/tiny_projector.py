"""A projector of a few kilobytes for the tiny llama: an image becomes four tokens."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, FEED, PATCH, IMAGE, TEXT_WIDTH = 32, 64, 14, 28, 256
TOKENS = (IMAGE // PATCH) ** 2


def write_tiny_projector(path: Path) -> None:
    """CLIP with two layers and LLaVA's projection, out of a fixed seed."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for name, number in {
        "image_size": IMAGE,
        "patch_size": PATCH,
        "embedding_length": WIDTH,
        "feed_forward_length": FEED,
        "projection_dim": TEXT_WIDTH,
        "block_count": 2,
        "attention.head_count": 2,
    }.items():
        writer.add_uint32(f"clip.vision.{name}", number)
    random = np.random.default_rng(7)
    for name, shape in _shapes().items():
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "v.class_embd": (WIDTH,),
        "v.patch_embd.weight": (WIDTH, 3, PATCH, PATCH),
        "v.position_embd.weight": (TOKENS + 1, WIDTH),
        "v.pre_ln.weight": (WIDTH,),
        "v.pre_ln.bias": (WIDTH,),
        "mm.0.weight": (TEXT_WIDTH, WIDTH),
        "mm.0.bias": (TEXT_WIDTH,),
        "mm.2.weight": (TEXT_WIDTH, TEXT_WIDTH),
        "mm.2.bias": (TEXT_WIDTH,),
    }
    for block in range(2):
        for name, shape in (
            *((f"attn_{which}", (WIDTH, WIDTH)) for which in ("q", "k", "v", "out")),
            ("ffn_up", (FEED, WIDTH)),
            ("ffn_down", (WIDTH, FEED)),
            ("ln1", (WIDTH,)),
            ("ln2", (WIDTH,)),
        ):
            shapes[f"v.blk.{block}.{name}.weight"] = shape
            shapes[f"v.blk.{block}.{name}.bias"] = shape[:1]
    return shapes
