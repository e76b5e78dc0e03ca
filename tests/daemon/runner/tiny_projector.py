"""Projectors of a few kilobytes for the tiny llama: an image becomes 4 tokens, a sound 30."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, FEED, PATCH, IMAGE, TEXT_WIDTH = 32, 64, 14, 28, 256
TOKENS = (IMAGE // PATCH) ** 2
MEL_BINS, POSITIONS, STACKED = 128, 1500, 50  # of half a minute, which shorter sounds are padded to
SOUND_TOKENS = POSITIONS // STACKED


def write_tiny_projector(path: Path) -> None:
    """CLIP with two layers and LLaVA's projection, out of a fixed seed."""
    _finish(_eyes(path, "mlp", n_layers=2, text_width=TEXT_WIDTH), _shapes())


def write_tiny_planar_eyes(path: Path, text_width: int) -> None:
    """As Qwen2-VL's, which keep an image's rows and columns and place it in two dimensions."""
    writer = _eyes(path, "qwen2vl_merger", n_layers=1, text_width=text_width)
    _finish(writer, _planar_eyes(text_width))


def write_tiny_ears(path: Path) -> None:
    """Whisper's encoder with one layer and Ultravox' projection, out of a fixed seed."""
    writer = _encoder(path, "audio", "ultravox", n_layers=1, text_width=TEXT_WIDTH)
    writer.add_uint32("clip.audio.num_mel_bins", MEL_BINS)
    writer.add_uint32("clip.audio.projector.stack_factor", STACKED)
    _finish(writer, _ears())


def _eyes(path: Path, projection: str, *, n_layers: int, text_width: int) -> gguf.GGUFWriter:
    writer = _encoder(path, "vision", projection, n_layers=n_layers, text_width=text_width)
    writer.add_bool("clip.use_gelu", True)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_uint32("clip.vision.image_size", IMAGE)
    writer.add_uint32("clip.vision.patch_size", PATCH)
    return writer


def _encoder(
    path: Path, sense: str, projection: str, *, n_layers: int, text_width: int
) -> gguf.GGUFWriter:
    """What every encoder says of itself."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool(f"clip.has_{sense}_encoder", True)
    writer.add_string("clip.projector_type", projection)
    writer.add_float32(f"clip.{sense}.attention.layer_norm_epsilon", 1e-5)
    for name, number in {
        "embedding_length": WIDTH,
        "feed_forward_length": FEED,
        "projection_dim": text_width,
        "block_count": n_layers,
        "attention.head_count": 2,
    }.items():
        writer.add_uint32(f"clip.{sense}.{name}", number)
    return writer


def _finish(writer: gguf.GGUFWriter, shapes: dict[str, tuple[int, ...]]) -> None:
    random = np.random.default_rng(7)
    for name, shape in shapes.items():
        kind = np.float16 if "conv" in name and len(shape) == 3 else np.float32
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _planar_eyes(text_width: int) -> dict[str, tuple[int, ...]]:
    merged = 4 * WIDTH  # two by two patches become one
    return {
        "v.patch_embd.weight": (WIDTH, 3, PATCH, PATCH),
        "v.patch_embd.weight.1": (WIDTH, 3, PATCH, PATCH),
        "v.post_ln.weight": (WIDTH,),
        "v.post_ln.bias": (WIDTH,),
        "mm.0.weight": (merged, merged),
        "mm.0.bias": (merged,),
        "mm.2.weight": (text_width, merged),
        "mm.2.bias": (text_width,),
        **_block("v.blk.0"),
    }


def _ears() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "a.conv1d.1.weight": (WIDTH, MEL_BINS, 3),
        "a.conv1d.1.bias": (WIDTH, 1),
        "a.conv1d.2.weight": (WIDTH, WIDTH, 3),
        "a.conv1d.2.bias": (WIDTH, 1),
        "a.position_embd.weight": (POSITIONS, WIDTH),
        "a.post_ln.weight": (WIDTH,),
        "a.post_ln.bias": (WIDTH,),
        "mm.a.norm_pre.weight": (WIDTH * STACKED,),
        "mm.a.mlp.1.weight": (2 * FEED, WIDTH * STACKED),
        "mm.a.norm_mid.weight": (FEED,),
        "mm.a.mlp.2.weight": (TEXT_WIDTH, FEED),
    }
    block = _block("a.blk.0")
    del block["a.blk.0.attn_k.bias"]
    return shapes | block


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
        shapes |= _block(f"v.blk.{block}")
    return shapes


def _block(prefix: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in (
        *((f"attn_{which}", (WIDTH, WIDTH)) for which in ("q", "k", "v", "out")),
        ("ffn_up", (FEED, WIDTH)),
        ("ffn_down", (WIDTH, FEED)),
        ("ln1", (WIDTH,)),
        ("ln2", (WIDTH,)),
    ):
        shapes[f"{prefix}.{name}.weight"] = shape
        shapes[f"{prefix}.{name}.bias"] = shape[:1]
    return shapes
