"""`qm compare`: several models measured against one base, which reads the text only once.

The base's logits are kept for a part of the text at a time, in a file that has no name; then each
model reads that part. So neither all models nor all logits have to be in memory at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..quality import Quality
from .chunks import check_text, chunked
from .evaluate import OUTPUTS, account_of, check_same, chunks_within, predictions, targets
from .logprobs import Totals, score
from .native_model import Floats, Loaded, loaded
from .needs import check_room

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART_BYTES = 1 << 30  # of logits on the disk at a time
_FLOAT_BYTES = 4

Told = Callable[[int, int], None]


def measure_ladder(
    base: Sequence[Path],
    models: Mapping[str, Sequence[Path]],
    text: bytes,
    on_chunk: Told,
    *,
    scratch: Path,
    limit: int | None = None,
    most_s: float | None = None,
) -> tuple[Quality, dict[str, Quality]]:
    """What the base and each of the models measured, the models by name, over at most `limit`
    chunks or as many as they read in `most_s`.

    Raises what `evaluate` raises, and StoreFull for want of room in `scratch`.
    """
    check_text(text, "evaluation")
    accounts = {name: account_of(weights) for name, weights in models.items()}
    base_account = account_of(base)
    if limit is None and most_s is not None:
        limit = chunks_within(most_s, [base_account, *accounts.values()])
    own, totals = Totals(), {name: Totals() for name in models}
    with loaded(base, n_outputs=OUTPUTS) as model:
        chunks = chunked(model.tokenize(text), "evaluation", limit)
        n_vocab = model.n_vocab
    per_part = max(1, _PART_BYTES // (OUTPUTS * n_vocab * _FLOAT_BYTES))
    progress = _Progress(on_chunk, len(chunks) * (len(models) + 1))
    for start in range(0, len(chunks), per_part):
        part = chunks[start : start + per_part]
        with _kept(scratch, len(part), n_vocab) as logits:
            with loaded(base, n_outputs=OUTPUTS) as model:
                _read_base(model, part, logits, own, progress)
            for name, weights in models.items():
                with loaded(weights, n_outputs=OUTPUTS) as model:
                    if not start:
                        check_same(model, n_vocab, text, chunks)
                    _read(model, part, logits, totals[name], progress)
    measured = {name: accounts[name].quality(totals[name], with_base=True) for name in models}
    return base_account.quality(own, with_base=False), measured


def _read_base(
    model: Loaded, chunks: Sequence[list[int]], logits: Floats, totals: Totals, tell: _Progress
) -> None:
    for chunk, kept in zip(chunks, logits, strict=True):
        kept[:] = predictions(model, chunk)
        totals.add(score(kept, targets(chunk)))
        tell.one_more()


def _read(
    model: Loaded, chunks: Sequence[list[int]], logits: Floats, totals: Totals, tell: _Progress
) -> None:
    for chunk, theirs in zip(chunks, logits, strict=True):
        totals.add(score(predictions(model, chunk), targets(chunk), theirs))
        tell.one_more()


@contextmanager
def _kept(scratch: Path, n_chunks: int, n_vocab: int) -> Iterator[Floats]:
    """Room for the logits of so many chunks."""
    shape = (n_chunks, OUTPUTS - 1, n_vocab)
    check_room(scratch, int(np.prod(shape)) * _FLOAT_BYTES, "the base's logits")
    with tempfile.TemporaryFile(dir=scratch) as file:
        yield np.memmap(file, dtype=np.float32, mode="w+", shape=shape)


class _Progress:
    """Counts chunks of all models."""

    def __init__(self, on_chunk: Told, total: int) -> None:
        self._on_chunk, self._total, self._done = on_chunk, total, 0

    def one_more(self) -> None:
        self._done += 1
        self._on_chunk(self._done, self._total)
