"""A text as chunks of tokens, all of the same length."""

from __future__ import annotations

from qm.store.errors import InvalidRequest

from .native_model import CHUNK_TOKENS

MIN_CHUNKS = 2


class TextTooShort(InvalidRequest):
    """Too little text to learn anything from."""

    code = "text_too_short"


def chunked(tokens: list[int], what: str, limit: int | None = None) -> list[list[int]]:
    """Whole chunks, the rest left out; raises TextTooShort for fewer than two."""
    whole = len(tokens) // CHUNK_TOKENS
    if whole < MIN_CHUNKS:
        raise TextTooShort(
            f"the {what} text has {len(tokens)} tokens for this model; at least "
            f"{MIN_CHUNKS * CHUNK_TOKENS} are needed"
        )
    count = whole if limit is None else min(whole, limit)
    return [tokens[at * CHUNK_TOKENS : (at + 1) * CHUNK_TOKENS] for at in range(count)]
