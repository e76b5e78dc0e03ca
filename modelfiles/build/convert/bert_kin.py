"""Embedding models that took BERT further: Nomic, Jina 2 and ModernBERT."""

from __future__ import annotations

from typing import ClassVar

from gguf import MODEL_ARCH

from . import bpe
from .bert import Bert
from .config import read_json_if_there
from .errors import BadConfig
from .family import Defaults, Names
from .pairs import Pairs
from .vocabulary import Vocabulary

_NOMIC_EXPECTED = {
    "activation_function": "swiglu",
    "causal": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "prenorm": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
}


class NomicBert(Bert):
    architectures: ClassVar[Names] = ("NomicBertModel",)
    arch = MODEL_ARCH.NOMIC_BERT
    defaults: ClassVar[Defaults] = {"type_vocab_size": 2, "n_positions": 8192}

    def complete(self) -> None:
        values = self.config.values
        if values.get("moe_every_n_layers"):
            raise BadConfig("Nomic's embedding models with experts are not supported")
        for name, expected in _NOMIC_EXPECTED.items():
            if values.get(name) != expected:
                raise BadConfig(f"config.json: {name} is {values.get(name)!r}, want {expected!r}")
        if values.get("n_positions") == 8192 and values.get("max_trained_positions", 2048) == 2048:
            values["n_positions"] = 2048  # what versions 1 and 1.5 were trained with


class JinaBert2(Bert):
    architectures: ClassVar[Names] = ("JinaBertModel", "JinaBertForMaskedLM")
    arch = MODEL_ARCH.JINA_BERT_V2

    def vocabulary(self) -> Vocabulary:
        config = read_json_if_there(self.path / "tokenizer_config.json")
        if config.get("tokenizer_class") != "RobertaTokenizer":
            return super().vocabulary()
        return bpe.byte_level(bpe.read_tokenizer(self.path), self.config)


class ModernBert(Bert):
    architectures: ClassVar[Names] = (
        "ModernBertModel",
        "ModernBertForMaskedLM",
        "ModernBertForSequenceClassification",
    )
    arch = MODEL_ARCH.MODERN_BERT
    defaults: ClassVar[Defaults] = {
        "norm_eps": 1e-5,
        "max_position_embeddings": 8192,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "hidden_activation": "gelu",
        "classifier_pooling": "cls",
    }
    prefix: ClassVar[str] = "model."

    def complete(self) -> None:
        super().complete()
        self.config.values.setdefault("layer_norm_eps", self.config.number("norm_eps"))

    @property
    def uniform(self) -> bool:
        """The first layer has no norm before its attention."""
        return False

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        pairs.u32(".attention.sliding_window", self.config.count("local_attention"))
        every = self.config.count("global_attn_every_n_layers")
        pairs.u32(".attention.sliding_window_pattern", every)
        pairs.text(".rope.scaling.type", "none")
        pairs.u32(".vocab_size", self.config.count("vocab_size"))
        pairs.text(".hidden_activation", self.config.text("hidden_activation"))

    def vocabulary(self) -> Vocabulary:
        return bpe.byte_level(bpe.read_tokenizer(self.path), self.config)

    def write_vocabulary(self, pairs: Pairs) -> None:
        for kind in ("bos", "eos", "sep"):
            pairs.flag(f"tokenizer.ggml.add_{kind}_token", True)
        self.vocabulary().write(pairs, self.path)
