"""StableLM 1 and 2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from gguf import MODEL_ARCH

from .errors import MissingWeights
from .family import Defaults, Family, Named, Names
from .pairs import Pairs
from .stand_ins import StandIns
from .tensor import Tensor, stacked


class StableLm(Family):
    architectures: ClassVar[Names] = ("StableLmForCausalLM", "StableLMEpochForCausalLM")
    arch = MODEL_ARCH.STABLELM
    defaults: ClassVar[Defaults] = {
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "partial_rotary_factor": 0.25,
    }
    stand_ins: ClassVar[StandIns] = StandIns(output=True)

    def complete(self) -> None:
        super().complete()
        values = self.config.values
        values.setdefault("num_key_value_heads", self.heads)
        older = self.hf_architecture == "StableLMEpochForCausalLM"
        values.setdefault("use_parallel_residual", older)
        self._norms: dict[str, dict[int, Tensor]] = {}

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        base, found, rest = name.partition("_layernorm.norms.")
        if not found:
            yield self.mapped(name), tensor
            return
        norms = self._norms.setdefault(base, {})
        norms[int(rest.partition(".")[0])] = tensor
        wanted = self.heads if base.endswith("q") else self.config.count("num_key_value_heads")
        if len(norms) == wanted:
            if set(norms) != set(range(wanted)):
                raise MissingWeights(f"{base}_layernorm lacks the norm of a head")
            stack = stacked([norms[head] for head in range(wanted)])
            yield self.mapped(f"{base}_layernorm.weight"), stack

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        config = self.config
        pairs.u32(".context_length", config.count("max_position_embeddings"))
        pairs.u32(".embedding_length", self.hidden)
        pairs.u32(".block_count", self.blocks)
        pairs.u32(".feed_forward_length", config.count("intermediate_size"))
        rotary = self.rope.partial_factor or config.number("partial_rotary_factor")
        pairs.u32(".rope.dimension_count", int(rotary * (self.hidden // self.heads)))
        pairs.u32(".attention.head_count", self.heads)
        pairs.u32(".attention.head_count_kv", config.count("num_key_value_heads"))
        pairs.flag(".use_parallel_residual", config.flag("use_parallel_residual"))
        pairs.f32(".attention.layer_norm_epsilon", config.number("layer_norm_eps", "norm_eps"))
        pairs.u32("general.file_type", file_type)
