"""Llama in all versions and what is built like it: Mistral, Mixtral, SmolLM, Vicuna and so on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from gguf import MODEL_ARCH

from . import bpe, sentencepiece
from .config import read_json_if_there
from .errors import BadConfig, BadTensor, MissingTokenizer
from .family import Defaults, Family, Named, Names
from .pairs import Pairs
from .tensor import Array, Tensor
from .vocabulary import Vocabulary

_CODE_LLAMA_SIZE, _CODE_LLAMA_END = 32016, 32010
_GRANITE_SIZE = 49152  # and that of SmolLM
_SMOLLM3_INTERVAL = 4


class Llama(Family):
    architectures: ClassVar[Names] = ("LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel")
    arch = MODEL_ARCH.LLAMA
    defaults: ClassVar[Defaults] = {"rms_norm_eps": 1e-6, "max_position_embeddings": 2048}
    fills_head_dim = True

    def complete(self) -> None:
        super().complete()
        values = self.config.values
        values.setdefault("num_key_value_heads", self.heads)
        if self.fills_head_dim:
            values.setdefault("head_dim", self.hidden // self.heads)

    def rename(self, name: str) -> str | None:
        return f"model.{name}" if self.bare_names else name

    @property
    def bare_names(self) -> bool:
        """Whether the repository holds a model without its head, whose names lack a prefix."""
        return self.hf_architecture == "LlamaModel"

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if name.endswith(("q_proj.weight", "q_proj.bias")):
            tensor = permuted(name, tensor, self.heads)
        elif name.endswith(("k_proj.weight", "k_proj.bias")):
            tensor = permuted(name, tensor, self.config.count("num_key_value_heads"))
        yield self.mapped(name), tensor

    def extra_tensors(self) -> Iterator[Named]:
        factors = self.rope.llama3_factors(self.head_dim)
        if factors is not None:
            yield "rope_freqs.weight", factors

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        pairs.u32(".vocab_size", self.config.count("vocab_size"))
        pairs.u32(".rope.dimension_count", self.head_dim)

    def vocabulary(self) -> Vocabulary:
        """Llama 2's SentencePiece, the same as tokenizer.json, or Llama 3's bytes."""
        try:
            return sentencepiece.vocabulary(self.path, self.config)
        except MissingTokenizer:
            files = bpe.read_tokenizer(self.path)
        if files.has_byte_fallback:
            return bpe.byte_fallback(files)
        return bpe.byte_level(files, self.config)

    def write_vocabulary(self, pairs: Pairs) -> None:
        prefix = read_json_if_there(self.path / "tokenizer_config.json").get("add_prefix_space")
        if isinstance(prefix, bool):
            pairs.flag("tokenizer.ggml.add_space_prefix", prefix)
        super().write_vocabulary(pairs)
        size = self.config.count("vocab_size")
        if size == _CODE_LLAMA_SIZE:
            pairs.u32("tokenizer.ggml.eot_token_id", _CODE_LLAMA_END)
        if size == _GRANITE_SIZE:
            pairs.flag("tokenizer.ggml.add_bos_token", False)


class SmolLm3(Llama):
    """Every fourth block has no rotations, which llama.cpp knows of itself."""

    architectures: ClassVar[Names] = ("SmolLM3ForCausalLM",)
    arch = MODEL_ARCH.SMOLLM3
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 4,
    }
    theta = 2e6
    fills_head_dim = False

    def complete(self) -> None:
        super().complete()
        interval = self.config.whole_or_none("no_rope_layer_interval") or _SMOLLM3_INTERVAL
        rotated = self.config.find("no_rope_layers") or self._rotated(interval)
        if rotated != self._rotated(_SMOLLM3_INTERVAL):
            raise BadConfig("config.json: llama.cpp can't leave out other rotations than every 4th")

    def _rotated(self, interval: int) -> list[int]:
        """1 for each layer that rotates, 0 for each that does not."""
        return [int((block + 1) % interval != 0) for block in range(self.block_count())]


class Mistral(Llama):
    architectures: ClassVar[Names] = ("MistralForCausalLM",)
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
    }


class Mixtral(Llama):
    architectures: ClassVar[Names] = ("MixtralForCausalLM",)
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }
    theta = 1e6
    fills_head_dim = False
    expert_weights = ("w1", "w2", "w3")

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if block is None or not self.experts.matches(name):
            yield from super().adapt(name, tensor, block)
            return
        count = self.config.count("num_local_experts")
        for weight, stack in self.experts.add(name, tensor, block, count):
            yield self.mapped(f"layers.{block}.feed_forward.experts.{weight}.weight"), stack


def permuted(name: str, tensor: Tensor, heads: int) -> Tensor:
    """Rows in the order of llama.cpp's rotations, which pair neighbours instead of halves."""
    rows = tensor.shape[0]
    if rows % (2 * heads):
        raise BadTensor(f"{name!r} has {rows} rows, which {heads} heads can't share")
    rest = tensor.shape[1:]

    def change(array: Array) -> Array:
        return array.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2)

    return tensor.moved(change)
