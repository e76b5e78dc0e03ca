"""BERT and the embedding models that are built like it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from gguf import MODEL_ARCH

from . import bpe, unigram
from .errors import BadConfig, UnknownTokenizer
from .family import Defaults, Family, Named, Names
from .pairs import Pairs
from .pooling import pooling_number, write_pooling
from .pretokenizer import pretokenizer
from .tensor import Tensor
from .vocabulary import KINDS_OF_TEXT, TokenType, Vocabulary

_SPACE = "\u2581"
_DROPPED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
_DROPPED_PREFIXES = ("cls.predictions", "cls.seq_relationship", "lm_head.")
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}


class Bert(Family):
    architectures: ClassVar[Names] = (
        "BertModel",
        "BertForMaskedLM",
        "BertForSequenceClassification",
        "CamembertModel",
    )
    arch = MODEL_ARCH.BERT
    defaults: ClassVar[Defaults] = {
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    theta = None
    prefix: ClassVar[str] = "bert."

    @property
    def labels(self) -> list[str]:
        """The classes that a classifier tells apart; none for dummies."""
        table = self.config.table("id2label")
        if not all(number.isdecimal() for number in table):
            raise BadConfig("config.json: id2label has a key that is no number")
        numbered = sorted((int(number), str(label)) for number, label in table.items())
        labels = [label for _, label in numbered]
        return [] if len(labels) == 2 and labels[0] == "LABEL_0" else labels

    def rename(self, name: str) -> str | None:
        name = name.removeprefix(self.prefix)
        for old, new in _OLD_NAMES.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        dropped = name in _DROPPED or name.startswith(_DROPPED_PREFIXES)
        return None if dropped else name

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if self.labels and name in ("classifier.weight", "classifier.bias"):
            name = name.replace("classifier.", "classifier.out_proj.")
        yield self.mapped(name), tensor

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        super().write_parameters(pairs, file_type)
        pairs.flag(".attention.causal", False)
        write_pooling(pairs, self.path)
        if kind := self.config.text("classifier_pooling"):
            pairs.u32(".classifier.pooling_type", pooling_number(kind))
        pairs.texts(".classifier.output_labels", self.labels)

    def vocabulary(self) -> Vocabulary:
        return word_pieces(bpe.read_tokenizer(self.path), self)

    def write_vocabulary(self, pairs: Pairs) -> None:
        self._write_token_types(pairs)
        super().write_vocabulary(pairs)

    def _write_token_types(self, pairs: Pairs) -> None:
        pairs.u32(KINDS_OF_TEXT, self.token_types)

    @property
    def token_types(self) -> int:
        """How many kinds of text the model tells apart."""
        count = self.config.whole_or_none("type_vocab_size")
        return 1 if count is None else count


class DistilBert(Bert):
    architectures: ClassVar[Names] = (
        "DistilBertModel",
        "DistilBertForMaskedLM",
        "DistilBertForSequenceClassification",
    )
    defaults: ClassVar[Defaults] = {"layer_norm_eps": 1e-12, "max_position_embeddings": 512}
    prefix: ClassVar[str] = "distilbert."

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        pairs.f32(".attention.layer_norm_epsilon", self.config.number("layer_norm_eps"))
        super().write_parameters(pairs, file_type)

    def rename(self, name: str) -> str | None:
        return None if name.startswith("vocab_") else super().rename(name)


class Roberta(Bert):
    architectures: ClassVar[Names] = ("RobertaModel", "RobertaForSequenceClassification")
    defaults: ClassVar[Defaults] = {**Bert.defaults, "pad_token_id": 1}
    prefix: ClassVar[str] = "roberta."

    def complete(self) -> None:
        """Positions are counted from the one after the padding token's number."""
        super().complete()
        self.offset = self.config.whole("pad_token_id") + 1
        self.config.values["max_position_embeddings"] = (
            self.config.count("max_position_embeddings") - self.offset
        )

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        if name == "embeddings.position_embeddings.weight":
            tensor = tensor.rows(self.offset, tensor.shape[0])
        yield from super().adapt(name, tensor, block)

    def vocabulary(self) -> Vocabulary:
        return bpe.byte_level(bpe.read_tokenizer(self.path), self.config)

    def write_vocabulary(self, pairs: Pairs) -> None:
        self.vocabulary().write(pairs, self.path)
        self._write_token_types(pairs)


class XlmRoberta(Roberta):
    architectures: ClassVar[Names] = ("XLMRobertaModel", "XLMRobertaForSequenceClassification")

    def complete(self) -> None:
        super().complete()
        if self.config.find("lora_adaptations") is not None:
            raise BadConfig("config.json: several adapters in one model are not supported")

    def vocabulary(self) -> Vocabulary:
        found = unigram.vocabulary(self.path, self.config)
        return replace(found, token_types=self.token_types)

    def write_vocabulary(self, pairs: Pairs) -> None:
        self.vocabulary().write(pairs, self.path)


def word_pieces(files: bpe.TokenizerFiles, family: Family) -> Vocabulary:
    """WordPiece with the marks moved: the start of a word is marked instead of its rest."""
    texts, types = bpe.tokens_and_types(files, family.config)
    pairs = zip(texts, types, strict=True)
    tokens = [text if kind is TokenType.CONTROL else _marked(text) for text, kind in pairs]
    try:
        pre = pretokenizer(files.tokenizer, files.description)
    except UnknownTokenizer:
        pre = "default"  # WordPiece is cut in one way only
    return replace(Vocabulary("bert", pre, tokens, types), n_special=len(tokens))


def _marked(text: str) -> str:
    return text.removeprefix("##") if text.startswith("##") else _SPACE + text
