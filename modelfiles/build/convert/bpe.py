"""Vocabularies of tokenizer.json: byte-level BPE, BPE with byte fallback, and WordPiece."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .config import Config, Json, read_json, read_json_if_there
from .errors import BadConfig, MissingTokenizer
from .pairs import Text
from .pretokenizer import PROBE, QWEN2_WORDS, pretokenizer
from .sample import sample_of
from .special import merges
from .vocabulary import TokenType, Vocabulary, looks_special, placeholders

_SPACE = "\u2581"
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_ADDED_SCORE = -1000.0
_QWEN = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
_NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """tokenizer.json as JSON and at work, and the tokens that were added to its vocabulary."""

    description: Json
    tokenizer: Tokenizer  # of a large one perhaps only what PROBE and the added tokens need
    numbers: Mapping[str, int]
    added: Mapping[int, Json]
    special: frozenset[str]  # those that the repository names by their purpose

    @property
    def model(self) -> Json:
        model = self.description.get("model")
        return model if isinstance(model, dict) else {}

    @property
    def has_byte_fallback(self) -> bool:
        """Whether it is BPE over letters, with tokens for the bytes of letters that it lacks."""
        return self.model.get("type") == "BPE" and bool(self.model.get("byte_fallback"))


def read_tokenizer(repository: Path) -> TokenizerFiles:
    """Raises MissingTokenizer when there is no tokenizer.json, nor what it can be made from."""
    description = _description(repository)
    added = _added(description)
    decoder = read_json_if_there(repository / "tokenizer_config.json").get("added_tokens_decoder")
    for number, entry in (decoder if isinstance(decoder, dict) else {}).items():
        if number.isdecimal() and isinstance(entry, dict) and isinstance(entry.get("content"), str):
            added.setdefault(int(number), entry)
    tokenizer, numbers = _at_work(repository, description, added)
    for number, entry in added.items():
        numbers.setdefault(entry["content"], number)
    return TokenizerFiles(description, tokenizer, numbers, added, _named_special(repository))


def byte_level(files: TokenizerFiles, config: Config) -> Vocabulary:
    """A vocabulary whose tokens spell bytes with printable letters, as GPT-2's does."""
    tokens, types = tokens_and_types(files, config)
    pre = pretokenizer(files.tokenizer, files.description)
    return Vocabulary("gpt2", pre, tokens, types, has_merges=True)


def instead_of_sentencepiece(repository: Path, config: Config) -> Vocabulary:
    """What a family whose makers publish a tokenizer.model has in tokenizer.json instead."""
    files = read_tokenizer(repository)
    if not files.has_byte_fallback:
        return byte_level(files, config)
    found = byte_fallback(files)
    size = config.vocabulary_size() or len(found.tokens)
    check_size(len(found.tokens) - 1, size)
    unused = list(placeholders(size - len(found.tokens), len(found.tokens)))
    return replace(
        found,
        tokens=[*found.tokens, *unused],
        types=[*found.types, *(TokenType.UNUSED for _ in unused)],
        scores=[*_ranked(found.tokens, merges(repository)), *(_ADDED_SCORE for _ in unused)],
        n_special=size,
    )


def _ranked(tokens: Sequence[Text], rules: Sequence[str]) -> list[float]:
    """The earlier a rule makes the token, the higher is its score, as SentencePiece has it."""
    ranks: dict[Text, int] = {}
    for rank, rule in enumerate(rules):
        ranks.setdefault(rule.replace(" ", ""), rank)
    return [-float(ranks.get(token, len(rules))) for token in tokens]


def byte_fallback(files: TokenizerFiles) -> Vocabulary:
    """A vocabulary with tokens for single bytes, as Llama 2's."""
    base = files.model.get("vocab") or {}
    by_number = {number: text for text, number in files.numbers.items()}
    size = len(base) + sum(number >= len(base) for number in by_number)
    tokens = [by_number.get(number, "") for number in range(size)]
    if not all(tokens):
        raise BadConfig("tokenizer.json leaves numbers between its tokens without a token")
    types = [
        _fallback_type(text, text in files.special, number >= len(base))
        for number, text in enumerate(tokens)
    ]
    scores = [_ADDED_SCORE] * size
    return Vocabulary("llama", "default", tokens, types, scores, n_special=size)


def tokens_and_types(files: TokenizerFiles, config: Config) -> tuple[list[str], list[TokenType]]:
    """Every number's token, placeholders for numbers without one."""
    size = config.vocabulary_size() or len(files.numbers)
    check_size(max(files.numbers.values(), default=-1), size)
    named: list[str | None] = [None] * size
    for text, number in files.numbers.items():
        named[number] = text
    tokens = [f"[PAD{n}]" if text is None else text for n, text in enumerate(named)]
    types = [TokenType.UNUSED if text is None else TokenType.NORMAL for text in named]
    for number, entry in files.added.items():
        tokens[number], types[number] = _added_token(files, entry)
    return tokens, types


def check_size(highest: int, size: int) -> None:
    if highest >= size:
        raise BadConfig(
            f"the tokenizer has a token number {highest}, the model only {size} rows "
            "(vocab_size in config.json): they don't belong together"
        )


def _added_token(files: TokenizerFiles, entry: Json) -> tuple[str, TokenType]:
    text = entry["content"]
    if not entry.get("normalized"):
        numbers = files.tokenizer.encode(text, add_special_tokens=False).ids
        text = files.tokenizer.decode(numbers, skip_special_tokens=False)
    if entry.get("special") or looks_special(text):
        return text, TokenType.CONTROL
    return text.replace(_SPACE, " "), TokenType.USER_DEFINED


def _at_work(
    repository: Path, description: Json, added: Mapping[int, Json]
) -> tuple[Tokenizer, dict[str, int]]:
    """With the number of every token."""
    sample = sample_of(description, (PROBE, *(entry["content"] for entry in added.values())))
    path = repository / "tokenizer.json"
    if sample is None and path.is_file():
        tokenizer = _working(path.read_bytes())
    else:
        tokenizer = _working(json.dumps(sample[0] if sample else description).encode())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, dict(sample[1] if sample else tokenizer.get_vocab(with_added_tokens=True))


def _description(repository: Path) -> Json:
    """tokenizer.json, or one that says the same as GPT-2's two files."""
    path = repository / "tokenizer.json"
    if path.is_file():
        return read_json(path)
    if (repository / "vocab.json").is_file() and (repository / "merges.txt").is_file():
        return _from_vocabulary_and_merges(repository)
    raise MissingTokenizer(
        "the repository has no tokenizer.json that its vocabulary could be read from"
    )


def _from_vocabulary_and_merges(repository: Path) -> Json:
    vocabulary = read_json(repository / "vocab.json")
    bytes_step: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    words: Json = bytes_step | {"use_regex": True}
    if read_json_if_there(repository / "tokenizer_config.json").get("tokenizer_class") in _QWEN:
        split = {"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated"}
        steps = [split | {"invert": False}, bytes_step | {"use_regex": False}]
        words = {"type": "Sequence", "pretokenizers": steps}
    return {
        "version": "1.0",
        "added_tokens": _added_beside(repository, vocabulary),
        "pre_tokenizer": words,
        "post_processor": None,
        "decoder": bytes_step | {"use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges(repository)},
    }


def _added_beside(repository: Path, vocabulary: Json) -> list[Json]:
    """The tokens of added_tokens.json, and those of the vocabulary that have a purpose."""
    special = _named_special(repository)
    numbers = {text: vocabulary[text] for text in sorted(special) if text in vocabulary}
    numbers |= read_json_if_there(repository / "added_tokens.json")
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    entries = [
        {"id": number, "content": text, **flags, "special": text in special}
        for text, number in numbers.items()
    ]
    return sorted(entries, key=lambda entry: str(entry["id"]).zfill(20))


def _working(description: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(description)
    except BaseException as error:  # the library raises nothing more precise, and panics
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BadConfig(f"tokenizer.json is damaged or unknown: {error}") from error


def _added(description: Json) -> dict[int, Json]:
    entries: dict[int, Json] = {}
    listed = description.get("added_tokens") or []
    if not isinstance(listed, list):
        raise BadConfig(f"tokenizer.json has {listed!r} for its added tokens, want a list")
    for entry in listed:
        match entry:
            case {"id": int(number), "content": str()} if number >= 0:
                entries[number] = entry
            case _:
                raise BadConfig(f"tokenizer.json has the malformed added token {entry!r}")
    return entries


def _named_special(repository: Path) -> frozenset[str]:
    config: dict[str, Any] = {}  # Any: JSON
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        config |= read_json_if_there(repository / name)
    several = config.get("additional_special_tokens") or config.get("extra_special_tokens")
    entries = [config.get(f"{kind}_token") for kind in _NAMED]
    entries += several if isinstance(several, list) else []
    texts = [entry.get("content") if isinstance(entry, dict) else entry for entry in entries]
    return frozenset(text for text in texts if isinstance(text, str))


def _fallback_type(text: str, special: bool, added: bool) -> TokenType:
    if _BYTE.fullmatch(text) and not added:
        return TokenType.BYTE
    if special:
        return TokenType.CONTROL
    return TokenType.USER_DEFINED if added else TokenType.NORMAL
