"""Qwen 2, 2.5 and 3, dense and with experts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from gguf import MODEL_ARCH

from . import bpe, sentencepiece
from .errors import BadTensor, MissingTokenizer
from .family import Defaults, Family, Named, Names
from .pairs import Pairs
from .parameters import write_whole
from .pooling import write_pooling
from .stand_ins import StandIns
from .tensor import Tensor
from .vocabulary import Vocabulary


class Qwen2(Family):
    architectures: ClassVar[Names] = ("Qwen2ForCausalLM", "Qwen2Model")
    arch = MODEL_ARCH.QWEN2
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
    }
    bare: ClassVar[Names] = ("Qwen2Model",)  # models without a head, whose names lack a prefix

    def rename(self, name: str) -> str | None:
        return f"model.{name}" if self.hf_architecture in self.bare else name

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        write_pooling(pairs, self.path)

    def vocabulary(self) -> Vocabulary:
        try:
            return sentencepiece.vocabulary(self.path, self.config)
        except MissingTokenizer:
            return bpe.byte_level(bpe.read_tokenizer(self.path), self.config)


class Qwen3(Qwen2):
    architectures: ClassVar[Names] = ("Qwen3ForCausalLM", "Qwen3Model")
    arch = MODEL_ARCH.QWEN3
    defaults: ClassVar[Defaults] = {**Qwen2.defaults, "head_dim": 128}
    bare: ClassVar[Names] = ("Qwen3Model",)


class Qwen2Moe(Family):
    architectures: ClassVar[Names] = ("Qwen2MoeForCausalLM",)
    arch = MODEL_ARCH.QWEN2MOE
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 16,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
    }
    expert_weights = ("down_proj", "gate_proj", "up_proj")
    stand_ins: ClassVar[StandIns] = StandIns(output=True)

    @property
    def uniform(self) -> bool:
        """Some layers may do without experts."""
        return not self.config.sequence("mlp_only_layers") and self.config.find(
            "decoder_sparse_step"
        ) in (None, 1)

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        write_whole(pairs, ".expert_feed_forward_length", self.config, "moe_intermediate_size")
        shared = "shared_expert_intermediate_size"
        write_whole(pairs, ".expert_shared_feed_forward_length", self.config, shared)

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if block is not None and self.experts.matches(name):
            count = self.config.count("num_local_experts", "num_experts")
            for weight, stack in self.experts.add(name, tensor, block, count):
                yield self.mapped(f"model.layers.{block}.mlp.experts.{weight}.weight"), stack
        elif ".mlp.experts." in name:
            yield from self._stacked_already(name.removesuffix(".weight"), tensor)
        else:
            yield self.mapped(name), tensor

    def _stacked_already(self, name: str, tensor: Tensor) -> Iterable[Named]:
        """Newer repositories stack the experts themselves, gate above up."""
        if not name.endswith(".gate_up_proj"):
            yield self.mapped(f"{name}.weight"), tensor
            return
        if len(tensor.shape) != 3 or tensor.shape[1] % 2:
            raise BadTensor(f"{name!r} has the shape {tensor.shape}, want gates above ups")
        count, both, width = tensor.shape
        half, base = both // 2, name.removesuffix(".gate_up_proj")
        shape = (count, half, width)
        gate = tensor.moved(lambda array: array[:, :half], shape)
        yield self.mapped(f"{base}.gate_proj.weight"), gate
        yield (
            self.mapped(f"{base}.up_proj.weight"),
            tensor.moved(lambda array: array[:, half:], shape),
        )


class Qwen3Moe(Qwen2Moe):
    architectures: ClassVar[Names] = ("Qwen3MoeForCausalLM",)
    arch = MODEL_ARCH.QWEN3MOE
    stand_ins: ClassVar[StandIns] = StandIns()
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 4,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
    }
