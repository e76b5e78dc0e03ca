"""Gemma 1, 2 and 3; their norms are stored as the difference to one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from gguf import MODEL_ARCH

from . import bpe, sentencepiece
from .errors import BadConfig
from .family import Defaults, Family, Named, Names
from .pairs import Pairs
from .parameters import write_head_lengths
from .pooling import write_pooling
from .tensor import Kind, Tensor
from .vocabulary import Vocabulary

_END_OF_TURN, _END_OF_TURN_TEXT = 107, "<end_of_turn>"
_WHOLE = {
    ".context_length": "max_position_embeddings",
    ".embedding_length": "hidden_size",
    ".block_count": "num_hidden_layers",
    ".feed_forward_length": "intermediate_size",
    ".attention.head_count": "num_attention_heads",
    ".attention.head_count_kv": "num_key_value_heads",
}


class Gemma(Family):
    architectures: ClassVar[Names] = ("GemmaForCausalLM",)
    arch = MODEL_ARCH.GEMMA
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 8192,
        "head_dim": 256,
    }

    def complete(self) -> None:
        super().complete()
        self.config.values.setdefault("num_key_value_heads", self.heads)

    def rename(self, name: str) -> str | None:
        """The output is the embedding again."""
        return None if name == "lm_head.weight" else name

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if name.endswith("norm.weight"):
            tensor = _around_one(tensor)
        yield self.mapped(name), tensor

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        for key, name in _WHOLE.items():
            pairs.u32(key, self.config.count(name))
        pairs.f32(".attention.layer_norm_rms_epsilon", self.config.number("rms_norm_eps"))
        write_head_lengths(pairs, self.head_dim)
        pairs.u32("general.file_type", file_type)

    def vocabulary(self) -> Vocabulary:
        if (self.path / "tokenizer.model").is_file():
            return sentencepiece.vocabulary(self.path, self.config)
        return bpe.instead_of_sentencepiece(self.path, self.config)

    def write_vocabulary(self, pairs: Pairs) -> None:
        vocabulary = self.vocabulary()
        vocabulary.write(pairs, self.path)
        if (self.path / "tokenizer.model").is_file():
            pairs.u32("tokenizer.ggml.eot_token_id", _END_OF_TURN)
        elif _END_OF_TURN_TEXT in vocabulary.tokens:
            pairs.u32("tokenizer.ggml.eot_token_id", vocabulary.tokens.index(_END_OF_TURN_TEXT))
        pairs.flag("tokenizer.ggml.add_space_prefix", False)


class Gemma2(Gemma):
    architectures: ClassVar[Names] = ("Gemma2ForCausalLM",)
    arch = MODEL_ARCH.GEMMA2
    defaults: ClassVar[Defaults] = {
        **Gemma.defaults,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window": 4096,
    }

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        for name in ("attn_logit_softcapping", "final_logit_softcapping"):
            pairs.f32(f".{name}", self.config.number(name))
        pairs.u32(".attention.sliding_window", self.config.whole("sliding_window"))

    def write_vocabulary(self, pairs: Pairs) -> None:
        self.vocabulary().write(pairs, self.path)
        pairs.flag("tokenizer.ggml.add_space_prefix", False)


class Gemma3(Family):
    architectures: ClassVar[Names] = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
    arch = MODEL_ARCH.GEMMA3
    defaults: ClassVar[Defaults] = {
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "rope_local_base_freq": 10000.0,
    }
    theta = 1e6

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if "embed_tokens.weight" in name:
            tensor = tensor.rows(0, min(tensor.shape[0], self._token_count()))
        if name.endswith("norm.weight"):
            tensor = _around_one(tensor)
        yield self.mapped(name), tensor

    def _token_count(self) -> int:
        """Rows of the embedding beyond it mean nothing."""
        if self._has_sentencepiece:
            return self.config.count("vocab_size")
        files = bpe.read_tokenizer(self.path)
        added = files.description.get("added_tokens") or ()
        known = len(files.model.get("vocab") or ()) + len(added)
        return max(known, self.config.vocabulary_size() or 0)

    @property
    def _has_sentencepiece(self) -> bool:
        return (self.path / "tokenizer.model").is_file()

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        if self.config.find("attn_logit_softcapping") is not None:
            raise BadConfig("config.json has attn_logit_softcapping, which Gemma 3 lacks")
        if cap := self.config.number_or_none("final_logit_softcapping"):
            pairs.f32(".final_logit_softcapping", cap)
        if self.config.find("sliding_window_pattern") != 1:
            pairs.u32(".attention.sliding_window", self.config.whole("sliding_window"))

    def vocabulary(self) -> Vocabulary:
        if self._has_sentencepiece:
            return sentencepiece.vocabulary(self.path, self.config)
        return bpe.instead_of_sentencepiece(self.path, self.config)

    def write_vocabulary(self, pairs: Pairs) -> None:
        vocabulary = self.vocabulary()
        vocabulary.write(pairs, self.path)
        if vocabulary.model == "llama":
            pairs.flag("tokenizer.ggml.add_space_prefix", False)


class EmbeddingGemma(Gemma3):
    architectures: ClassVar[Names] = ("Gemma3TextModel",)
    arch = MODEL_ARCH.GEMMA_EMBEDDING

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        pairs.u32(".attention.sliding_window", self.config.whole("sliding_window"))
        write_pooling(pairs, self.path)


def _around_one(norm: Tensor) -> Tensor:
    """Half precision stays what it is meanwhile, as upstream calculates it; the rest is float32."""
    if norm.kind is Kind.F16:
        return norm.moved(lambda array: array + np.float16(1))
    return norm.calculated(lambda array: array + 1)
