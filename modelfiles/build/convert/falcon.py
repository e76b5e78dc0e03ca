"""Falcon 7B, 40B and 180B."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from gguf import MODEL_ARCH

from .family import Defaults, Family, Named, Names
from .fused import separated_groups
from .pairs import Pairs
from .tensor import Tensor

_CONTEXT = 2048  # the makers' config.json does not say it


class Falcon(Family):
    architectures: ClassVar[Names] = ("FalconForCausalLM", "RWForCausalLM")
    arch = MODEL_ARCH.FALCON
    defaults: ClassVar[Defaults] = {"layer_norm_epsilon": 1e-5}

    @property
    def _groups(self) -> int:
        """How many keys the heads share; the config of a 7B may say one for each, and mean one."""
        found = self.config.whole_or_none("num_kv_heads", "n_head_kv")
        if self.hf_architecture == "RWForCausalLM":
            return found or 1
        if self.config.flag("new_decoder_architecture") or not self.config.flag(
            "multi_query", True
        ):
            return found or self.heads
        return 1

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if "query_key_value" in name:
            tensor = separated_groups(name, tensor, self.heads, self._groups)
        yield self.mapped(name), tensor

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        pairs.u32(".context_length", _CONTEXT)
        pairs.text(".tensor_data_layout", "jploski")
        pairs.u32(".embedding_length", self.hidden)
        feed_forward = self.config.whole_or_none("ffn_hidden_size") or 4 * self.hidden
        pairs.u32(".feed_forward_length", feed_forward)
        pairs.u32(".block_count", self.blocks)
        pairs.u32(".attention.head_count", self.heads)
        pairs.u32(".attention.head_count_kv", self._groups)
        pairs.f32(".attention.layer_norm_epsilon", self.config.number("layer_norm_epsilon"))
        pairs.u32("general.file_type", file_type)
