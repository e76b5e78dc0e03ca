"""Vocabularies of SentencePiece: `tokenizer.model`, a protocol buffer, read without its library.

The format: github.com/google/sentencepiece, src/sentencepiece_model.proto. A message is a row of
fields, each a number (its tag shifted by three, plus how it is stored) and its value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .config import Config, read_json_if_there
from .errors import BadConfig, MissingTokenizer
from .vocabulary import TokenType, Vocabulary, looks_special, placeholders

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_SPACE = "\u2581"
_ADDED_SCORE = -1000.0
_UNUSED_SCORE = -10000.0


@dataclass(frozen=True, slots=True)
class Piece:
    text: bytes
    score: float
    type: int


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """What `tokenizer.model` holds."""

    pieces: tuple[Piece, ...]
    model_type: int = 1  # 1 unigram, 2 BPE
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    precompiled_charsmap: bytes = b""


def read_model(path: Path) -> SentencePieceModel:
    try:
        return _model(path.read_bytes())
    except (IndexError, ValueError, struct.error) as error:
        raise BadConfig(f"{path.name} is no SentencePiece model: {error}") from error


def vocabulary(repository: Path, config: Config) -> Vocabulary:
    """The vocabulary of `tokenizer.model`; raises MissingTokenizer when it is not there."""
    path = repository / "tokenizer.model"
    if not path.is_file():
        raise MissingTokenizer("the repository has no tokenizer.model")
    pieces = read_model(path).pieces
    size = config.vocabulary_size() or len(pieces)
    tokens = [name.encode() for name in placeholders(size)]
    scores = [_UNUSED_SCORE] * size
    types = [TokenType.UNUSED] * size
    for number, piece in enumerate(pieces[:size]):
        tokens[number], scores[number] = piece.text, piece.score
        types[number] = piece_type(piece)
    for number, token, kind in _added(repository):
        if 0 <= number < size:
            tokens[number], scores[number], types[number] = token, _ADDED_SCORE, kind
    return Vocabulary("llama", "default", tokens, types, scores, n_special=size)


def piece_type(piece: Piece) -> TokenType:
    """User-defined pieces count as normal ones, as the scores are what decides there."""
    kind = TokenType(piece.type) if 1 <= piece.type <= 6 else TokenType.NORMAL
    return TokenType.NORMAL if kind is TokenType.USER_DEFINED else kind


def _added(repository: Path) -> Iterator[tuple[int, bytes, TokenType]]:
    for text, number in read_json_if_there(repository / "added_tokens.json").items():
        if isinstance(number, int):
            yield number, text.encode(), TokenType.USER_DEFINED
    decoder = read_json_if_there(repository / "tokenizer_config.json").get("added_tokens_decoder")
    for number, entry in (decoder if isinstance(decoder, dict) else {}).items():
        match entry:
            case {"content": str(text)} if number.isdecimal():
                if entry.get("special") or looks_special(text):
                    yield int(number), text.encode(), TokenType.CONTROL
                else:
                    plain = text.replace(_SPACE, " ")
                    yield int(number), plain.encode(), TokenType.USER_DEFINED


def _model(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for tag, value in _fields(data):
        if isinstance(value, int):
            continue
        if tag == _PIECES:
            pieces.append(_piece(value))
        elif tag == _TRAINER:
            trainer = dict(_fields(value))
        elif tag == _NORMALIZER:
            normalizer = dict(_fields(value))
    if not pieces:
        raise ValueError("it has no pieces")
    charsmap, kind = normalizer.get(2, b""), trainer.get(3, 1)
    return SentencePieceModel(
        tuple(pieces),
        kind if isinstance(kind, int) else 1,
        bool(normalizer.get(3, 1)),
        bool(normalizer.get(4, 1)),
        charsmap if isinstance(charsmap, bytes) else b"",
    )


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    text, score, kind = fields.get(1, b""), fields.get(2, b"\0\0\0\0"), fields.get(3, 1)
    if not isinstance(text, bytes) or not isinstance(score, bytes) or not isinstance(kind, int):
        raise ValueError("a piece is stored in an unknown way")
    return Piece(text, struct.unpack("<f", score)[0], kind)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Tag and value of each field; numbers of fixed size come as their bytes."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        match key & 7:
            case 0:
                value, position = _varint(data, position)
                yield key >> 3, value
                continue
            case 1:
                length = 8
            case 2:
                length, position = _varint(data, position)
            case 5:
                length = 4
            case other:
                raise ValueError(f"a field is stored in the unknown way {other}")
        if position + length > len(data):
            raise ValueError("it is cut short")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Seven bits a byte, the low ones first; the highest bit says that more follow."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
