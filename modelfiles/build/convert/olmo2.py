"""OLMo 2 and 3."""

from __future__ import annotations

from typing import ClassVar

from gguf import MODEL_ARCH

from .family import Defaults, Family, Names
from .pairs import Pairs, Type
from .stand_ins import StandIns


class Olmo2(Family):
    architectures: ClassVar[Names] = ("Olmo2ForCausalLM",)
    arch = MODEL_ARCH.OLMO2
    defaults: ClassVar[Defaults] = {"rms_norm_eps": 1e-5, "max_position_embeddings": 2048}
    stand_ins: ClassVar[StandIns] = StandIns(output=True)

    def complete(self) -> None:
        super().complete()
        self.config.values.setdefault("num_key_value_heads", self.heads)

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        if (window := self.config.whole_or_none("sliding_window")) is None:
            return
        pairs.u32(".attention.sliding_window", window)
        kinds = self.config.sequence("layer_types")
        slides = [kind == "sliding_attention" for kind in kinds] or [
            (block + 1) % 4 != 0 for block in range(self.blocks)
        ]
        pairs.numbers(".attention.sliding_window_pattern", Type.BOOL, slides)


class Olmo3(Olmo2):
    architectures: ClassVar[Names] = ("Olmo3ForCausalLM",)
    theta = 500000.0

    def complete(self) -> None:
        """Layers that slide rotate as the others do, but are never stretched."""
        super().complete()
        if (theta := self.config.find("rope_theta")) is not None:
            self.config.values.setdefault("rope_local_base_freq", theta)
