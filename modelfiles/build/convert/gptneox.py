"""GPT-NeoX and Pythia."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from gguf import MODEL_ARCH

from .family import Defaults, Family, Named, Names
from .fused import separated
from .pairs import Pairs
from .stand_ins import StandIns
from .tensor import Tensor


class GptNeox(Family):
    architectures: ClassVar[Names] = ("GPTNeoXForCausalLM",)
    arch = MODEL_ARCH.GPTNEOX
    defaults: ClassVar[Defaults] = {
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 2048,
        "rotary_pct": 0.25,
        "use_parallel_residual": True,
    }
    stand_ins: ClassVar[StandIns] = StandIns(output=True, biases=("attn_qkv", "attn_output"))

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if ".attention.query_key_value." in name:
            tensor = separated(name, tensor, self.heads)
        yield self.mapped(name), tensor

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        pairs.u32(".context_length", self.config.count("max_position_embeddings"))
        pairs.u32(".embedding_length", self.hidden)
        pairs.u32(".block_count", self.blocks)
        pairs.u32(".feed_forward_length", self.config.count("intermediate_size"))
        partial = self.rope.partial_factor or self.config.number("rotary_pct")
        pairs.u32(".rope.dimension_count", int(partial * (self.hidden // self.heads)))
        pairs.u32(".attention.head_count", self.heads)
        pairs.flag(".use_parallel_residual", self.config.flag("use_parallel_residual"))
        pairs.f32(".attention.layer_norm_epsilon", self.config.number("layer_norm_eps"))
