"""ChatGLM 3, GLM 4 as its makers first published it, and GLM 4 of 2025."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from gguf import MODEL_ARCH

from . import bpe, sentencepiece, tiktoken
from .config import read_json_if_there
from .errors import MissingTokenizer
from .family import Defaults, Family, Names
from .pairs import Pairs
from .vocabulary import TokenType, Vocabulary, placeholders

_END, _USER = "<|endoftext|>", "<|user|>"
_FIRST = (b"<unk>", b"<bos>", b"<eos>")
_ADDED = (
    *(b"[MASK]", b"[gMASK]", b"[sMASK]", b"sop", b"eop"),
    *(b"<|system|>", b"<|user|>", b"<|assistant|>", b"<|observation|>"),
)


class ChatGlm(Family):
    architectures: ClassVar[Names] = (
        "GlmForCausalLM",
        "ChatGLMModel",
        "ChatGLMForConditionalGeneration",
    )
    arch = MODEL_ARCH.CHATGLM
    ends: ClassVar[Names] = ("eos", "unk")

    def complete(self) -> None:
        """The makers' own config.json has other names than that of transformers."""
        values = self.config.values
        for ours, theirs in (
            ("vocab_size", "padded_vocab_size"),
            ("intermediate_size", "ffn_hidden_size"),
            ("num_key_value_heads", "multi_query_group_num"),
        ):
            if theirs in values:
                values[ours] = values[theirs]

    def rename(self, name: str) -> str | None:
        if name.endswith(".rotary_pos_emb.inv_freq"):
            return None
        return name.removeprefix("transformer.")

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        config = self.config
        pairs.u32(".context_length", config.whole_or_none("seq_length") or self.hidden)
        pairs.u32(".embedding_length", self.hidden)
        feed_forward = config.whole_or_none("intermediate_size") or 4 * self.hidden
        pairs.u32(".feed_forward_length", feed_forward)
        pairs.u32(".block_count", self.blocks)
        pairs.u32(".attention.head_count", self.heads)
        groups = config.whole_or_none("num_key_value_heads") or self.heads
        pairs.u32(".attention.head_count_kv", groups)
        epsilon = config.number_or_none("layernorm_epsilon") or 1e-5
        pairs.f32(".attention.layer_norm_rms_epsilon", epsilon)
        pairs.u32("general.file_type", file_type)
        rotary = config.whole_or_none("attention_dim") or self.hidden // self.heads
        pairs.u32(".rope.dimension_count", int(rotary * (self.rope.partial_factor or 0.5)))
        pairs.flag("tokenizer.ggml.add_bos_token", False)
        pairs.f32(".rope.freq_base", 10000.0 * (config.number_or_none("rope_ratio") or 1.0))

    def vocabulary(self) -> Vocabulary:
        if self._is_version_3:
            return self._of_version_3()
        if (self.path / "tokenizer.json").is_file():
            files = bpe.read_tokenizer(self.path)
            found = bpe.byte_level(files, self.config)
            added = {entry["content"]: number for number, entry in files.added.items()}
        else:
            found, added = self._of_tiktoken()
        if _END not in added or _USER not in added:
            raise MissingTokenizer(f"the tokenizer lacks {_END} or {_USER}, which end an answer")
        special = {"eos": added[_END], "eot": added[_USER]}
        special |= dict.fromkeys(self.ends, added[_END])
        return replace(found, special=special)

    @property
    def _is_version_3(self) -> bool:
        """Whether its tokenizer is the makers' own code around a file of SentencePiece."""
        if (self.path / "tokenizer.json").is_file():
            return False
        path = self.path / "tokenizer.model"
        return path.is_file() and not tiktoken.is_tiktoken(path)

    def _of_tiktoken(self) -> tuple[Vocabulary, dict[str, int]]:
        """That of GLM 4's first publication, and its added tokens."""
        path = self.path / "tokenizer.model"
        if not path.is_file():
            raise MissingTokenizer("the repository has neither tokenizer.json nor tokenizer.model")
        ranks = tiktoken.read_ranks(path)
        said = read_json_if_there(self.path / "tokenizer_config.json").get("added_tokens_decoder")
        added = {
            entry["content"]: int(number)
            for number, entry in (said if isinstance(said, dict) else {}).items()
            if number.isdecimal() and isinstance(entry, dict) and "content" in entry
        }
        names = {number: tiktoken.letters(token) for token, number in ranks.items()}
        names |= {number: text for text, number in added.items()}
        size = self.config.vocabulary_size() or max(names, default=-1) + 1
        bpe.check_size(max(names, default=-1), size)
        tokens, types = list(placeholders(size)), [TokenType.UNUSED] * size
        for number, text in names.items():
            tokens[number], types[number] = text, TokenType.NORMAL
        for number in added.values():
            types[number] = TokenType.CONTROL
        found = Vocabulary("gpt2", "chatglm-bpe", tokens, types, rules=tiktoken.rules(ranks))
        return found, added

    def _of_version_3(self) -> Vocabulary:
        """SentencePiece's tokens, then those of the makers' own code, then rows without any."""
        pieces = sentencepiece.read_model(self.path / "tokenizer.model").pieces
        known = [*_FIRST, *(piece.text for piece in pieces[len(_FIRST) :])]
        size = self.config.vocabulary_size() or len(known) + len(_ADDED)
        bpe.check_size(len(known) + len(_ADDED) - 1, size)
        rest = size - len(known) - len(_ADDED)
        unused = [name.encode() for name in placeholders(rest, len(known) + len(_ADDED))]
        types = [sentencepiece.piece_type(piece) for piece in pieces]
        types += [TokenType.CONTROL] * len(_ADDED) + [TokenType.UNUSED] * rest
        scores = [piece.score for piece in pieces] + [0.0] * (len(_ADDED) + rest)
        tokens = [*known, *_ADDED, *unused]
        return Vocabulary("llama", "chatglm-spm", tokens, types, scores, n_special=size)


class Glm4(ChatGlm):
    architectures: ClassVar[Names] = ("Glm4ForCausalLM",)
    arch = MODEL_ARCH.GLM4
    defaults: ClassVar[Defaults] = {
        "rms_norm_eps": 1.5625e-07,
        "max_position_embeddings": 131072,
        "head_dim": 128,
        "partial_rotary_factor": 0.5,
    }
    ends: ClassVar[Names] = ("eos", "unk", "bos")

    def complete(self) -> None:
        Family.complete(self)

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        Family.write_parameters(self, pairs, file_type)
        partial = self.rope.partial_factor or 0.5
        pairs.u32(".rope.dimension_count", int(self.head_dim * partial))
