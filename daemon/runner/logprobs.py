"""Log probabilities of tokens, from raw logits: what the model thought before any sampling."""

from __future__ import annotations

from typing import Any

from .vocabulary import Vocabulary
from .wire import TokenLogprob


def token_logprob(vocabulary: Vocabulary, logits: Any, token: int, n_top: int) -> TokenLogprob:
    """`token` and its `n_top` likeliest rivals. `logits` is a float pointer of the vocabulary."""
    import numpy as np  # noqa: PLC0415  # 20 MB that a runner without logprobs does without

    values = np.ctypeslib.as_array(logits, (vocabulary.size,)).astype(np.float64)
    values -= values.max()
    values -= np.log(np.exp(values).sum())
    n_top = min(n_top, vocabulary.size)
    best = np.argpartition(values, -n_top)[-n_top:] if n_top else np.empty(0, dtype=np.int64)
    ranked = sorted((int(other) for other in best), key=lambda other: -values[other])
    top = tuple(_entry(vocabulary, other, float(values[other])) for other in ranked)
    return _entry(vocabulary, token, float(values[token]), top)


def _entry(
    vocabulary: Vocabulary, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()
) -> TokenLogprob:
    data = vocabulary.piece(token)
    text = data.decode(errors="replace") if data else vocabulary.text(token)
    return TokenLogprob(text, logprob, tuple(data), token, top)
