"""Vocabularies of the unigram kind, as XLM-RoBERTa's."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

from .bpe import TokenizerFiles, read_tokenizer
from .config import Config, Json, read_json_if_there
from .errors import BadConfig, UnknownTokenizer
from .sentencepiece import SentencePieceModel, piece_type, read_model
from .vocabulary import TokenType, Vocabulary, placeholders

_UNUSED_SCORE = -10000.0
_UNIGRAM = 1
_FIRST = ("<s>", "<pad>", "</s>", "<unk>")  # how XLM-RoBERTa renumbered SentencePiece's tokens


def vocabulary(repository: Path, config: Config) -> Vocabulary:
    """The vocabulary of sentencepiece.bpe.model, or of tokenizer.json."""
    path = repository / "sentencepiece.bpe.model"
    if path.is_file():
        return _renumbered(read_model(path), config)
    tokenizer_config = read_json_if_there(repository / "tokenizer_config.json")
    return _of_json(read_tokenizer(repository), config, tokenizer_config)


def _renumbered(model: SentencePieceModel, config: Config) -> Vocabulary:
    if model.model_type != _UNIGRAM:
        raise BadConfig("sentencepiece.bpe.model is not of the unigram kind")
    size = max(config.vocabulary_size() or 0, len(model.pieces))
    unused = size - len(model.pieces)
    tokens = [piece.text for piece in model.pieces]
    tokens += [name.encode() for name in placeholders(unused, len(tokens))]
    scores = [piece.score for piece in model.pieces] + [_UNUSED_SCORE] * unused
    types = [piece_type(piece) for piece in model.pieces] + [TokenType.UNUSED] * unused
    first = [TokenType.CONTROL] * 3 + [TokenType.UNKNOWN]
    return Vocabulary(
        "t5",
        "default",
        [*_FIRST, *tokens[3:-1]],
        first + types[3:-1],
        [0.0] * len(_FIRST) + scores[3:-1],
        n_special=size,
        adds_space=model.add_dummy_prefix,
        removes_spaces=model.remove_extra_whitespaces,
        character_map=model.precompiled_charsmap,
    )


def _of_json(files: TokenizerFiles, config: Config, told: Json) -> Vocabulary:
    if files.model.get("type") != "Unigram":
        raise UnknownTokenizer(f"tokenizer.json is {files.model.get('type')!r}, want Unigram")
    entries = _entries(files)
    size = max(config.vocabulary_size() or 0, len(entries))
    unused = size - len(entries)
    tokens = [text for text, _ in entries] + list(placeholders(unused, len(entries)))
    scores = [score for _, score in entries] + [_UNUSED_SCORE] * unused
    unknown = files.numbers.get(str(told.get("unk_token")), files.model.get("unk_id", 3))
    types = [_type(files, number, text, unknown) for number, (text, _) in enumerate(entries)]
    types += [TokenType.UNUSED] * unused
    return Vocabulary(
        "t5",
        "default",
        tokens,
        types,
        scores,
        n_special=size,
        adds_space=bool(told.get("add_prefix_space", True)),
        removes_spaces=bool(told.get("clean_up_tokenization_spaces", False)),
        character_map=_character_map(files.description.get("normalizer")),
    )


def _entries(files: TokenizerFiles) -> list[tuple[str, float]]:
    entries: list[tuple[str, float]] = []
    for entry in files.model.get("vocab") or ():
        match entry:
            case [str(text), int() | float() as score]:
                entries.append((text, float(score)))
            case _:
                raise BadConfig(f"tokenizer.json has the malformed token {entry!r}")
    return entries


def _type(files: TokenizerFiles, number: int, text: str, unknown: object) -> TokenType:
    if number == unknown:
        return TokenType.UNKNOWN
    if text in files.special:
        return TokenType.CONTROL
    return TokenType.USER_DEFINED if number in files.added else TokenType.NORMAL


def _character_map(normalizer: object) -> bytes:
    match normalizer:
        case {"precompiled_charsmap": str(text)}:
            return b64decode(text)
        case {"normalizers": [*steps]}:
            return next((found for step in steps if (found := _character_map(step))), b"")
    return b""
