"""StarCoder 2."""

from __future__ import annotations

from typing import ClassVar

from gguf import MODEL_ARCH

from .family import Defaults, Family, Names
from .stand_ins import StandIns


class Starcoder2(Family):
    architectures: ClassVar[Names] = ("Starcoder2ForCausalLM",)
    arch = MODEL_ARCH.STARCODER2
    defaults: ClassVar[Defaults] = {
        "norm_epsilon": 1e-5,
        "max_position_embeddings": 4096,
        "num_key_value_heads": 2,
    }
    stand_ins: ClassVar[StandIns] = StandIns(biases=("attn_output", "ffn_down", "ffn_up"))
