"""A text as chunks of tokens, all of the same length."""

from __future__ import annotations

from qm.store.errors import InvalidRequest

from .native_model import CHUNK_TOKENS

MIN_CHUNKS = 2


class TextTooShort(InvalidRequest):
    """Too little text to learn anything from."""

    code = "text_too_short"


class NotText(InvalidRequest):
    """What is no text in UTF-8, which llama.cpp may abort over."""

    code = "not_text"


def check_text(text: bytes, what: str) -> None:
    """Before any model is loaded for it. Raises NotText or TextTooShort."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        if error.end != len(text) or error.reason != "unexpected end of data":  # cut to a length
            raise NotText(
                f"the {what} text is not UTF-8 from byte {error.start} on; to convert it: iconv"
            ) from None
    if len(text) < MIN_CHUNKS * CHUNK_TOKENS:  # there is no token without a byte
        raise TextTooShort(
            f"the {what} text has {len(text)} bytes; at least {MIN_CHUNKS * CHUNK_TOKENS} tokens "
            "are needed"
        )


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
