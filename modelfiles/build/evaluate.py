"""How good, how fast and how large a model is, measured by running it.

A model is looked at twice: once alone, for speed and memory, then over the text, beside the base
if there is one, so that nothing but one chunk's logits has to be kept.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from qm.store.errors import InvalidRequest
from qm.store.gguf import read_header

from ..quality import Quality
from .chunks import check_text, chunked
from .logprobs import Totals, score
from .native_model import CHUNK_TOKENS, Floats, Loaded, loaded

FIRST = CHUNK_TOKENS // 2  # before it the model has too little context to be judged
OUTPUTS = CHUNK_TOKENS - FIRST
_GENERATED = 32
_LEAST_CHUNKS = 8
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5)


class DifferentVocabularies(InvalidRequest):
    """Two models whose tokens are not the same can't be compared token by token."""

    code = "different_vocabularies"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, and against what; paths of all parts."""

    weights: Sequence[Path]
    base: Sequence[Path] = ()


def evaluate(
    subject: Subject,
    text: bytes,
    on_chunk: Callable[[int, int], None],
    limit: int | None = None,
    *,
    most_s: float | None = None,
) -> Quality:
    """Over at most `limit` chunks of the text, or what can be read in `most_s`.

    Raises NotText, TextTooShort, ModelUnusable, DifferentVocabularies.
    """
    check_text(text, "evaluation")
    account = account_of(subject.weights)
    if limit is None and most_s is not None:
        limit = chunks_within(most_s, [account] * (2 if subject.base else 1))
    totals = _totals(subject, text, on_chunk, limit)
    return account.quality(totals, with_base=bool(subject.base))


@dataclass(frozen=True, slots=True)
class Account:
    """A model's size and speed, without any text."""

    size_bytes: int
    bits_per_weight: float
    prompt_tokens_per_s: float
    generated_tokens_per_s: float
    peak_memory_bytes: int | None

    def quality(self, totals: Totals, *, with_base: bool) -> Quality:
        """Together with what a text has shown."""
        perplexity, error = totals.perplexity()
        mean, p99 = totals.divergence() if with_base else (None, None)
        return Quality(
            perplexity=perplexity,
            perplexity_error=error,
            size_bytes=self.size_bytes,
            bits_per_weight=self.bits_per_weight,
            prompt_tokens_per_s=self.prompt_tokens_per_s,
            generated_tokens_per_s=self.generated_tokens_per_s,
            peak_memory_bytes=self.peak_memory_bytes,
            kld_mean=mean,
            kld_p99=p99,
            top1_agreement=totals.agreement() if with_base else None,
            tokens=sum(map(len, totals.losses)),
        )


def chunks_within(most_s: float, readers: Sequence[Account]) -> int:
    """How many chunks all of them read in about that time: a power of two, so that models of like
    speed are measured over the same text.
    """
    chunk_s = sum(CHUNK_TOKENS / one.prompt_tokens_per_s for one in readers)
    return 1 << max(_LEAST_CHUNKS, int(most_s / chunk_s)).bit_length() - 1


def account_of(weights: Sequence[Path]) -> Account:
    """Runs the model for a moment. Raises ModelUnusable."""
    headers = [read_header(path) for path in weights]
    parameters = sum(header.parameter_count for header in headers)
    bits = sum(header.weights_bytes for header in headers) * 8 / parameters
    return Account(sum(header.file_bytes for header in headers), bits, *_speed(weights))


def _totals(
    subject: Subject, text: bytes, on_chunk: Callable[[int, int], None], limit: int | None
) -> Totals:
    totals = Totals()
    base = loaded(subject.base, n_outputs=OUTPUTS) if subject.base else nullcontext(None)
    with loaded(subject.weights, n_outputs=OUTPUTS) as model, base as other:
        chunks = chunked(model.tokenize(text), "evaluation", limit)
        if other is not None:
            check_same(other, model.n_vocab, text, chunks)
        for number, chunk in enumerate(chunks, 1):
            _add_chunk(totals, model, other, chunk)
            on_chunk(number, len(chunks))
    return totals


def _add_chunk(totals: Totals, model: Loaded, other: Loaded | None, chunk: list[int]) -> None:
    """One chunk, read by both."""
    theirs = None if other is None else predictions(other, chunk)
    totals.add(score(predictions(model, chunk), targets(chunk), theirs))


def predictions(model: Loaded, chunk: list[int]) -> Floats:
    """Logits for every token of the second half but the first, each from all before it: a view of
    shape (OUTPUTS - 1, n_vocab) that holds until the model reads again.
    """
    model.chunk(chunk, outputs_from=FIRST)
    return model.logits(OUTPUTS)[:-1]


def targets(chunk: list[int]) -> npt.NDArray[np.int64]:
    """The tokens that were to be predicted."""
    return np.array(chunk[FIRST + 1 :])


def check_same(model: Loaded, n_vocab: int, text: bytes, chunks: Sequence[Sequence[int]]) -> None:
    """Raises DifferentVocabularies unless the model cuts the text into these chunks too."""
    tokens = [token for chunk in chunks for token in chunk]
    if model.n_vocab != n_vocab or model.tokenize(text)[: len(tokens)] != tokens:
        raise DifferentVocabularies(
            "the model and its base cut the text into different tokens, so their predictions "
            "can't be compared"
        )


def _speed(weights: Sequence[Path]) -> tuple[float, float, int | None]:
    """Tokens a second taken in and given out, and the most memory that it took."""
    with _peak() as peak, loaded(weights, n_outputs=1) as model:
        first = model.tokenize(b"a")[0] if model.bos is None else model.bos
        prompt = [first] * CHUNK_TOKENS
        model.decode(prompt[:_GENERATED], outputs_from=_GENERATED - 1)  # brings weights into memory
        model.clear()
        prompt_s = model.decode(prompt, outputs_from=CHUNK_TOKENS - 1)
        model.clear()
        generated_s = _generate(model, first)
        peak.read()
    return CHUNK_TOKENS / prompt_s, _GENERATED / generated_s, peak.size_bytes


def _generate(model: Loaded, token: int) -> float:
    """How long it takes to say a few words, always the likeliest one."""
    seconds = 0.0
    for position in range(_GENERATED):
        seconds += model.decode([token], position=position)
        token = int(model.logits(1)[0].argmax())
    return seconds


@dataclass(slots=True)
class _Peak:
    """Memory beyond what the process had before; None where the system can't tell."""

    before_bytes: int | None
    size_bytes: int | None = None

    def read(self) -> None:
        if self.before_bytes is not None:
            self.size_bytes = _peak_bytes() - self.before_bytes


@contextmanager
def _peak() -> Iterator[_Peak]:
    if sys.platform != "linux":
        yield _Peak(None)
        return
    _CLEAR.write_text(_RESET_PEAK)
    yield _Peak(_peak_bytes())


def _peak_bytes() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
