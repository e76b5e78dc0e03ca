"""DeepSeek 2, 2.5, 3 and R1: latent attention, and experts beyond the first layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from gguf import MODEL_ARCH

from .errors import BadTensor
from .family import Defaults, Family, Named, Names
from .pairs import Pairs
from .parameters import write_whole
from .tensor import Array, Tensor


class Deepseek2(Family):
    architectures: ClassVar[Names] = ("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM")
    arch = MODEL_ARCH.DEEPSEEK2
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2048,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "n_shared_experts": 0,
    }
    expert_weights = ("down_proj", "gate_proj", "up_proj")

    @property
    def uniform(self) -> bool:
        """The first layers have no experts."""
        return False

    def complete(self) -> None:
        super().complete()
        values = self.config.values
        values.setdefault("num_key_value_heads", self.heads)
        values.setdefault("head_dim", values["qk_rope_head_dim"])
        if self.hf_architecture == "DeepseekV3ForCausalLM":
            values.setdefault("scoring_func", "sigmoid")  # the only one that its class knows
        self._key_heads = self.config.count("num_key_value_heads")
        values["num_key_value_heads"] = 1  # in the latent space all heads share one key

    def rename(self, name: str) -> str | None:
        """Layers beyond the last predict several tokens at once, which llama.cpp does not use."""
        layer = name.removeprefix("model.layers.").partition(".")[0]
        if name.startswith("model.layers.") and layer.isdecimal() and int(layer) >= self.blocks:
            return None
        if self.config.flag("tie_word_embeddings") and name == "lm_head.weight":
            return None
        return name

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if block is not None and self.experts.matches(name):
            count = self.config.count("n_routed_experts")
            for weight, stack in self.experts.add(name, tensor, block, count):
                yield self.mapped(f"model.layers.{block}.mlp.experts.{weight}.weight"), stack
        elif name.endswith("kv_b_proj.weight"):
            yield from self._absorbed(name, tensor)
        else:
            yield self.mapped(name), tensor

    def _absorbed(self, name: str, tensor: Tensor) -> Iterable[Named]:
        """Keys and values apart, the keys turned, so that attention can stay in latent space."""
        key, value = self.config.count("qk_nope_head_dim"), self.config.count("v_head_dim")
        rows, width = tensor.shape
        heads = self._key_heads
        if rows != heads * (key + value):
            raise BadTensor(f"{name!r} has {rows} rows, want {heads * (key + value)}")

        def keys(array: Array) -> Array:
            return array.reshape(heads, key + value, width)[:, :key].swapaxes(1, 2)

        def values(array: Array) -> Array:
            return array.reshape(heads, key + value, width)[:, key:]

        key_name, value_name = (
            name.replace("kv_b_proj", part) for part in ("k_b_proj", "v_b_proj")
        )
        yield self.mapped(key_name), tensor.moved(keys, (heads, width, key))
        yield self.mapped(value_name), tensor.moved(values, (heads, value, width))

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        config = self.config
        has_experts = "n_routed_experts" in config
        dense = config.whole_or_none("first_k_dense_replace")
        fallback = 0 if has_experts else self.blocks
        pairs.u32(".leading_dense_block_count", fallback if dense is None else dense)
        pairs.u32(".vocab_size", config.count("vocab_size"))
        write_whole(pairs, ".attention.q_lora_rank", config, "q_lora_rank")
        self._write_latent(pairs)
        feed_forward = config.count("moe_intermediate_size", "intermediate_size")
        pairs.u32(".expert_feed_forward_length", feed_forward)
        write_whole(pairs, ".expert_count", config, "n_routed_experts")
        write_whole(pairs, ".expert_shared_count", config, "n_shared_experts")
        if (scale := config.number_or_none("routed_scaling_factor")) is not None:
            pairs.f32(".expert_weights_scale", scale)
        if config.flag("norm_topk_prob"):
            pairs.flag(".expert_weights_norm", True)
        pairs.u32(".rope.dimension_count", config.count("qk_rope_head_dim"))
        if (scale := self.rope.values.number_or_none("mscale_all_dim")) is not None:
            pairs.f32(".rope.scaling.yarn_log_multiplier", 0.1 * scale)

    def _write_latent(self, pairs: Pairs) -> None:
        rank, rotary = self.config.count("kv_lora_rank"), self.config.count("qk_rope_head_dim")
        pairs.u32(".attention.kv_lora_rank", rank)
        pairs.u32(".attention.key_length", rank + rotary)
        pairs.u32(".attention.value_length", rank)
        pairs.u32(".attention.key_length_mla", self.config.count("qk_nope_head_dim") + rotary)
        pairs.u32(".attention.value_length_mla", self.config.count("v_head_dim"))
