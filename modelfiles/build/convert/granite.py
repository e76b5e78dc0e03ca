"""Granite 3: Llama with four multipliers."""

from __future__ import annotations

from typing import ClassVar

from gguf import MODEL_ARCH

from .family import Defaults, Names
from .llama import Llama
from .pairs import Pairs

_SCALES = {
    ".attention.scale": "attention_multiplier",
    ".embedding_scale": "embedding_multiplier",
    ".residual_scale": "residual_multiplier",
    ".logit_scale": "logits_scaling",
}


class Granite(Llama):
    architectures: ClassVar[Names] = ("GraniteForCausalLM",)
    arch = MODEL_ARCH.GRANITE
    defaults: ClassVar[Defaults] = {
        **Llama.defaults,
        "attention_multiplier": 1.0,
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "logits_scaling": 1.0,
    }
    fills_head_dim = False

    def complete(self) -> None:
        super().complete()
        self.config.values.pop("head_dim", None)

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        for key, name in _SCALES.items():
            if scale := self.config.number_or_none(name):
                pairs.f32(key, scale)
