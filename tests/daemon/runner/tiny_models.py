"""Models of a few hundred kilobytes for every kind of memory: attention, windows, states, both.

Their weights are seeded noise, so that what they say depends on all that was said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import gguf
import numpy as np

from tests.modelfiles.build.tiny_llama import add_tokenizer, finish

EMBED, FEED, HEADS, KV_HEADS, BLOCKS = 32, 64, 4, 2, 2
VOCABULARY: Final = 288
WINDOW: Final = 16  # tokens, where attention slides
_HEAD: Final = EMBED // HEADS
_KV: Final = _HEAD * KV_HEADS
_CONV, _STATE, _INNER, _RANK, _GROUPS = 4, 16, 2 * EMBED, 4, 1
_MIXED: Final = _INNER + 2 * _GROUPS * _STATE  # what mamba 2 convolves
_SHORT: Final = 3
_SPECIAL: Final = 3  # <unk>, <s>, </s>
_PARTS: Final = ("enc", "dec")
_DISTANCES: Final = 32  # that relative positions are sorted into

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Kind:
    """An architecture: numbers of its metadata, tensors of its blocks, the last norm's name."""

    block: Callable[[int], Shapes]
    numbers: Mapping[str, int] = field(default_factory=dict)
    kv_heads: tuple[int, ...] | int = KV_HEADS
    last_norm: str = "output_norm"
    lists: Mapping[str, list[int]] = field(default_factory=dict)
    others: Shapes = field(default_factory=dict)  # tensors outside of blocks


def write_tiny_model(path: Path, architecture: str) -> Path:
    """A model of `architecture`, one of `KINDS` or `REFUSED`; returns `path`."""
    kind = (KINDS | REFUSED)[architecture]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(2048)
    writer.add_embedding_length(EMBED)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(list(kind.kv_heads) if isinstance(kind.kv_heads, tuple) else KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_vocab_size(VOCABULARY)
    for name, number in kind.numbers.items():
        writer.add_uint32(f"{architecture}.{name}", number)
    for name, numbers in kind.lists.items():
        writer.add_array(f"{architecture}.{name}", numbers)
    add_tokenizer(writer, VOCABULARY)
    random = np.random.default_rng(11)
    for name, shape in _tensors(kind).items():
        writer.add_tensor(name, _numbers(random, name, shape))
    finish(writer)
    return path


def _tensors(kind: Kind) -> Shapes:
    shapes: Shapes = {"token_embd.weight": (VOCABULARY, EMBED)}
    for number in range(BLOCKS):
        for name, shape in kind.block(number).items():
            part, _, rest = name.partition(".")
            shapes[f"{part}.blk.{number}.{rest}" if part in _PARTS else f"blk.{number}.{name}"] = (
                shape
            )
    return (
        shapes
        | kind.others
        | {
            f"{kind.last_norm}.weight": (EMBED,),
            "output.weight": (VOCABULARY, EMBED),
        }
    )


def _numbers(
    random: np.random.Generator, name: str, shape: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Norms are ones, decay is slow, the rest is noise that keeps the size of what it is fed."""
    if "norm" in name:
        return np.ones(shape, np.float32)
    if name.endswith("ssm_a"):
        return -random.uniform(0.01, 0.1, shape).astype(np.float32)
    scale = 1.0 if len(shape) == 1 else 1 / np.sqrt(shape[-1])
    if name == "output.weight":
        scale *= 4  # clear decisions
    numbers = random.normal(0, scale, shape).astype(np.float32)
    if name == "output.weight":
        numbers[:_SPECIAL] = 0  # no answer ends early
    return numbers


def _feed() -> Shapes:
    return {
        "ffn_norm.weight": (EMBED,),
        "ffn_gate.weight": (FEED, EMBED),
        "ffn_up.weight": (FEED, EMBED),
        "ffn_down.weight": (EMBED, FEED),
    }


def _attention() -> Shapes:
    return {
        "attn_norm.weight": (EMBED,),
        "attn_q.weight": (EMBED, EMBED),
        "attn_k.weight": (_KV, EMBED),
        "attn_v.weight": (_KV, EMBED),
        "attn_output.weight": (EMBED, EMBED),
    }


def _head_norms() -> Shapes:
    return {"attn_q_norm.weight": (_HEAD,), "attn_k_norm.weight": (_HEAD,)}


def _mamba() -> Shapes:
    return {
        "attn_norm.weight": (EMBED,),
        "ssm_in.weight": (2 * _INNER, EMBED),
        "ssm_conv1d.weight": (_INNER, _CONV),
        "ssm_conv1d.bias": (_INNER,),
        "ssm_x.weight": (_RANK + 2 * _STATE, _INNER),
        "ssm_dt.weight": (_INNER, _RANK),
        "ssm_dt.bias": (_INNER,),
        "ssm_a": (_INNER, _STATE),
        "ssm_d": (_INNER,),
        "ssm_out.weight": (EMBED, _INNER),
    }


def _mamba2() -> Shapes:
    return {
        "attn_norm.weight": (EMBED,),
        "ssm_in.weight": (_INNER + _MIXED + _RANK, EMBED),
        "ssm_conv1d.weight": (_MIXED, _CONV),
        "ssm_conv1d.bias": (_MIXED,),
        "ssm_dt.bias": (_RANK,),
        "ssm_a": (_RANK, 1),
        "ssm_d": (_RANK, 1),
        "ssm_norm.weight": (_GROUPS, _INNER // _GROUPS),
        "ssm_out.weight": (EMBED, _INNER),
    }


def _jamba(number: int) -> Shapes:
    norms = {f"ssm_{name}_norm.weight": (_STATE,) for name in "bc"}
    state = _mamba() | norms | {"ssm_dt_norm.weight": (_RANK,)}
    return (state if number == 0 else _attention()) | _feed()


def _granite(number: int) -> Shapes:
    return (_mamba2() if number == 0 else _attention()) | _feed()


def _lfm2(number: int) -> Shapes:
    convolution = {
        "attn_norm.weight": (EMBED,),
        "shortconv.conv.weight": (EMBED, _SHORT),
        "shortconv.in_proj.weight": (3 * EMBED, EMBED),
        "shortconv.out_proj.weight": (EMBED, EMBED),
    }
    return (convolution if number == 0 else _attention() | _head_norms()) | _feed()


def _falcon_h1(_: int) -> Shapes:
    tensors = _mamba2() | _attention() | _feed()
    return tensors | {"ffn_norm": tensors.pop("ffn_norm.weight")}


def _gemma3(_: int) -> Shapes:
    after = {f"post_{name}_norm.weight": (EMBED,) for name in ("attention", "ffw")}
    return _attention() | _head_norms() | after | _feed()


def _t5(number: int) -> Shapes:
    shapes: Shapes = {}
    for part in _PARTS:
        shapes |= {f"{part}.attn_{name}.weight": (EMBED, EMBED) for name in "qkvo"}
        shapes |= {f"{part}.{name}_norm.weight": (EMBED,) for name in ("attn", "ffn")}
        shapes[f"{part}.ffn_up.weight"] = (FEED, EMBED)
        shapes[f"{part}.ffn_down.weight"] = (EMBED, FEED)
        if number == 0:
            shapes[f"{part}.attn_rel_b.weight"] = (_DISTANCES, HEADS)
    shapes |= {f"dec.cross_attn_{name}.weight": (EMBED, EMBED) for name in "qkvo"}
    return shapes | {"dec.cross_attn_norm.weight": (EMBED,)}


_SSM = {
    "ssm.conv_kernel": _CONV,
    "ssm.inner_size": _INNER,
    "ssm.state_size": _STATE,
    "ssm.time_step_rank": _RANK,
}
_SSM2 = _SSM | {"ssm.group_count": _GROUPS}
KINDS: Final[dict[str, Kind]] = {
    "llama": Kind(lambda _: _attention() | _feed()),
    "gemma3": Kind(
        _gemma3,
        {"attention.sliding_window": WINDOW, "attention.sliding_window_pattern": 2},
    ),
    "qwen2vl": Kind(
        lambda _: _attention() | _feed(), lists={"rope.dimension_sections": [2, 1, 1, 0]}
    ),
    "mamba": Kind(lambda _: _mamba(), _SSM),
    "mamba2": Kind(lambda _: _mamba2(), _SSM2),
    "jamba": Kind(_jamba, _SSM, (0, KV_HEADS)),
    "granitehybrid": Kind(_granite, _SSM2, (0, KV_HEADS)),
    "lfm2": Kind(_lfm2, {"shortconv.l_cache": _SHORT}, (0, KV_HEADS), "token_embd_norm"),
    "falcon-h1": Kind(_falcon_h1, _SSM2),
}
REFUSED: Final[dict[str, Kind]] = {
    "t5": Kind(
        _t5,
        {"attention.relative_buckets_count": _DISTANCES},
        (HEADS, HEADS),
        "dec.output_norm",
        others={"enc.output_norm.weight": (EMBED,)},
    ),
}
