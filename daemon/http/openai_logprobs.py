"""Log probabilities, as OpenAI's two routes print them. Pure."""

from __future__ import annotations

import codecs

from ..chat.request import JsonObject
from ..runner.wire import TokenLogprob


class TextOffsets:
    """Where in a choice's text its tokens begin, told one after the other."""

    def __init__(self) -> None:
        self._at = 0
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def next(self, entry: TokenLogprob) -> int:
        at = self._at
        self._at += len(self._decode(bytes(entry.bytes)))
        return at


def chat_logprobs(entries: tuple[TokenLogprob, ...]) -> JsonObject:
    """A list of tokens, each with its rivals."""
    if not entries:
        return {}
    content = [
        _logprob(entry) | {"top_logprobs": [_logprob(other) for other in entry.top]}
        for entry in entries
    ]
    return {"logprobs": {"content": content, "refusal": None}}


def text_logprobs(entries: tuple[TokenLogprob, ...], offsets: TextOffsets) -> JsonObject:
    """Four lists side by side; the first token of an echoed prompt has no probability."""
    if not entries:
        return {}
    return {
        "logprobs": {
            "tokens": [entry.token for entry in entries],
            "token_logprobs": [entry.logprob if entry.known else None for entry in entries],
            "top_logprobs": [_rivals(entry) for entry in entries],
            "text_offset": [offsets.next(entry) for entry in entries],
        }
    }


def _rivals(entry: TokenLogprob) -> JsonObject | None:
    """The likeliest tokens, and the one that stands there."""
    if not entry.known:
        return None
    return {one.token: one.logprob for one in entry.top} | {entry.token: entry.logprob}


def _logprob(entry: TokenLogprob) -> JsonObject:
    return {"token": entry.token, "logprob": entry.logprob, "bytes": list(entry.bytes)}
