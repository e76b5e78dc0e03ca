"""Log probabilities of tokens, from raw logits: what the model thought before any sampling."""

from __future__ import annotations

from typing import Any

from .vocabulary import Vocabulary
from .wire import TokenLogprob


def token_logprob(
    vocabulary: Vocabulary, logits: Any, token: int, n_top: int, *, special: bool = False
) -> TokenLogprob:
    """`token` and its `n_top` likeliest rivals. `logits` is a float pointer of the vocabulary.

    `special` says that control tokens are part of the text.
    """
    import numpy as np  # noqa: PLC0415  # 20 MB that a runner without logprobs does without

    values = np.ctypeslib.as_array(logits, (vocabulary.size,))
    highest = values.max()
    total = float(highest) + float(np.log(np.exp(values - highest).sum(dtype=np.float64)))
    n_top = min(n_top, vocabulary.size)
    best = np.argpartition(values, -n_top)[-n_top:] if n_top else np.empty(0, dtype=np.int64)
    ranked = sorted((int(other) for other in best), key=lambda other: -values[other])

    def entry(one: int, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        return _entry(vocabulary, one, float(values[one]) - total, top, special=special)

    return entry(token, tuple(entry(other) for other in ranked))


def without_logprob(vocabulary: Vocabulary, token: int, *, spaced: bool) -> TokenLogprob:
    """A token that nothing stands before; `spaced` takes back a space that nobody wrote."""
    entry = _entry(vocabulary, token, 0.0, special=True)
    start = int(spaced and entry.token.startswith(" "))
    return TokenLogprob(entry.token[start:], 0.0, entry.bytes[start:], token, known=False)


def _entry(
    vocabulary: Vocabulary,
    token: int,
    logprob: float,
    top: tuple[TokenLogprob, ...] = (),
    *,
    special: bool,
) -> TokenLogprob:
    data = vocabulary.piece(token, special)
    text = data.decode(errors="replace") if data else vocabulary.text(token)
    return TokenLogprob(text, logprob, tuple(data), token, top)
