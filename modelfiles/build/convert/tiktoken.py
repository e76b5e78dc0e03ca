"""Vocabularies of tiktoken: a line for each token, its bytes in base64 and its rank."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

from .errors import BadConfig

_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))


def is_tiktoken(path: Path) -> bool:
    """Whether the file begins with such a line; SentencePiece's begin with a byte of control."""
    with path.open("rb") as file:
        first = file.readline(1 << 10)
    try:
        return bool(_line(first))
    except ValueError:
        return False


def read_ranks(path: Path) -> dict[bytes, int]:
    """Every token's rank, which is its number."""
    try:
        return dict(map(_line, path.read_bytes().splitlines()))
    except ValueError as error:
        raise BadConfig(f"{path.name} is no file of tiktoken: {error}") from error


def rules(ranks: Mapping[bytes, int]) -> list[str]:
    """What joins two tokens to each that is longer than a byte, in the order of ranks."""
    joined = (
        (_parts(ranks, token, rank)) for token, rank in sorted(ranks.items(), key=lambda e: e[1])
    )
    return [f"{letters(parts[0])} {letters(parts[1])}" for parts in joined if len(parts) == 2]


def letters(token: bytes) -> str:
    """The bytes as the printable letters that GPT-2 has for them."""
    return token.decode("latin-1").translate(_letters())


def _line(line: bytes) -> tuple[bytes, int]:
    """Raises ValueError."""
    text, rank = line.split()
    try:
        return base64.b64decode(text, validate=True), int(rank)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _parts(ranks: Mapping[bytes, int], token: bytes, limit: int) -> list[bytes]:
    """The token cut as it would be if no rank from `limit` on were known."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 1:
        found = [ranks.get(left + right, limit) for left, right in pairwise(parts)]
        best = min(found)
        if best >= limit:
            break
        at = found.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


@cache
def _letters() -> dict[int, int]:
    others = (byte for byte in range(256) if byte not in _PRINTABLE)
    return {byte: 256 + place for place, byte in enumerate(others)}
