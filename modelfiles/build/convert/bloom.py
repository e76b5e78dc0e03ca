"""Bloom and its fine-tunes (Bloomz, Phoenix)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from gguf import MODEL_ARCH

from .family import Defaults, Family, Named, Names
from .fused import separated
from .pairs import Pairs
from .tensor import Tensor


class Bloom(Family):
    architectures: ClassVar[Names] = ("BloomForCausalLM", "BloomModel")
    arch = MODEL_ARCH.BLOOM
    defaults: ClassVar[Defaults] = {"layer_norm_epsilon": 1e-5}
    theta = None

    @property
    def hidden(self) -> int:
        return self.config.count("hidden_size", "n_embed")

    def rename(self, name: str) -> str | None:
        return name.replace("transformer.", "")

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if ".self_attention.query_key_value." in name:
            tensor = separated(name, tensor, self.heads)
        yield self.mapped(name), tensor

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        context = self.config.whole_or_none("seq_length") or self.hidden
        pairs.u32(".context_length", context)
        pairs.u32(".embedding_length", self.hidden)
        pairs.u32(".feed_forward_length", 4 * self.hidden)
        pairs.u32(".block_count", self.blocks)
        pairs.u32(".attention.head_count", self.heads)
        pairs.u32(".attention.head_count_kv", self.heads)
        pairs.f32(".attention.layer_norm_epsilon", self.config.number("layer_norm_epsilon"))
        pairs.u32("general.file_type", file_type)
