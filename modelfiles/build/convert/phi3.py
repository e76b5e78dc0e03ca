"""Phi 3, 3.5 and 4."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
from gguf import MODEL_ARCH

from . import bpe, sentencepiece
from .config import read_json_if_there
from .errors import BadConfig
from .family import Defaults, Family, Named, Names
from .pairs import Pairs
from .tensor import of_array
from .vocabulary import TokenType, Vocabulary

_ADDED_SCORE = -1000.0


class Phi3(Family):
    architectures: ClassVar[Names] = ("Phi3ForCausalLM",)
    arch = MODEL_ARCH.PHI3
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 1.0,
    }

    def complete(self) -> None:
        super().complete()
        self.config.values.setdefault("num_key_value_heads", self.heads)

    @property
    def _rope_dimensions(self) -> int:
        return int((self.rope.partial_factor or 1.0) * self.hidden) // self.heads

    @property
    def _original_context(self) -> int:
        return self.rope.values.count("original_max_position_embeddings")

    def extra_tensors(self) -> Iterator[Named]:
        """How far each frequency is stretched in long texts, and in short ones."""
        factors = {kind: self.rope.values.numbers(f"{kind}_factor") for kind in ("long", "short")}
        for kind, numbers in factors.items() if factors["long"] else ():
            if len(numbers) * 2 != self._rope_dimensions:
                raise BadConfig(
                    f"config.json: {kind}_factor has {len(numbers)} numbers, "
                    f"want {self._rope_dimensions // 2}"
                )
            yield f"rope_factors_{kind}.weight", of_array(np.array(numbers, dtype=np.float32))

    def write_first(self, pairs: Pairs) -> None:
        if self.rope.values.sequence("long_factor"):
            pairs.f32(".rope.scaling.attn_factor", self._attention_factor())

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        config = self.config
        pairs.u32(".context_length", config.count("n_positions", "max_position_embeddings"))
        pairs.u32(".rope.scaling.original_context_length", self._original_context)
        pairs.u32(".embedding_length", self.hidden)
        pairs.u32(".feed_forward_length", config.count("intermediate_size"))
        pairs.u32(".block_count", self.blocks)
        pairs.u32(".attention.head_count", self.heads)
        pairs.u32(".attention.head_count_kv", config.count("num_key_value_heads"))
        pairs.f32(".attention.layer_norm_rms_epsilon", config.number("rms_norm_eps"))
        pairs.u32(".rope.dimension_count", self._rope_dimensions)
        pairs.f32(".rope.freq_base", self.rope.values.number("rope_theta"))
        pairs.u32("general.file_type", file_type)
        pairs.u32(".attention.sliding_window", config.whole_or_none("sliding_window") or 0)

    def _attention_factor(self) -> float:
        scale = self.config.count("max_position_embeddings") / self._original_context
        if scale <= 1:
            return 1.0
        if self.rope.type in ("su", "longrope"):
            return math.sqrt(1 + math.log(scale) / math.log(self._original_context))
        if self.rope.type == "yarn":
            return 0.1 * math.log(scale) + 1
        raise BadConfig(f"config.json: rope scaling of the unknown type {self.rope.type!r}")

    def vocabulary(self) -> Vocabulary:
        config = read_json_if_there(self.path / "tokenizer_config.json")
        if config.get("tokenizer_class") == "GPT2Tokenizer":
            return super().vocabulary()
        if not (self.path / "tokenizer.model").is_file():
            return bpe.instead_of_sentencepiece(self.path, self.config)
        found = sentencepiece.vocabulary(self.path, self.config)
        tokens, types, scores = list(found.tokens), list(found.types), list(found.scores)
        for number, text, special in self._added(config):
            if 0 <= number < len(tokens):
                tokens[number], scores[number] = text.encode(), _ADDED_SCORE
                types[number] = TokenType.CONTROL if special else TokenType.USER_DEFINED
        return replace(found, tokens=tokens, types=types, scores=scores)

    def _added(self, config: dict[str, object]) -> Iterator[tuple[int, str, bool]]:
        """Added tokens just as they are written, those of tokenizer.json last."""
        decoder = config.get("added_tokens_decoder")
        entries = [
            {**entry, "id": int(number)}
            for number, entry in (decoder if isinstance(decoder, dict) else {}).items()
            if number.isdecimal() and isinstance(entry, dict)
        ]
        tokenizer = read_json_if_there(self.path / "tokenizer.json")
        for entry in [*entries, *(tokenizer.get("added_tokens") or ())]:
            match entry:
                case {"id": int(number), "content": str(text)}:
                    yield number, text, bool(entry.get("special"))
