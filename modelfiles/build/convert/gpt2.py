"""GPT-2, whose matrices stand the other way round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from gguf import MODEL_ARCH

from .family import Defaults, Family, Named, Names
from .pairs import Pairs
from .tensor import Tensor

_MASKS = (".attn.bias", ".attn.masked_bias")
_TURNED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")


class Gpt2(Family):
    architectures: ClassVar[Names] = ("GPT2LMHeadModel",)
    arch = MODEL_ARCH.GPT2
    defaults: ClassVar[Defaults] = {"layer_norm_epsilon": 1e-5, "n_positions": 1024}
    theta = None

    def rename(self, name: str) -> str | None:
        return None if name.endswith(_MASKS) else name

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        yield self.mapped(name), tensor.transposed() if name.endswith(_TURNED) else tensor

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        pairs.u32(".block_count", self.blocks)
        pairs.u32(".context_length", self.config.count("n_ctx", "n_positions"))
        pairs.u32(".embedding_length", self.hidden)
        pairs.u32(".feed_forward_length", self.config.whole_or_none("n_inner") or 4 * self.hidden)
        pairs.u32(".attention.head_count", self.heads)
        pairs.f32(".attention.layer_norm_epsilon", self.config.number("layer_norm_epsilon"))
        pairs.u32("general.file_type", file_type)
