"""Embeddings and rankings: inputs of all waiting requests, batch by batch.

Each step evaluates one batch, filled from the requests in turn, so that a long list of texts keeps
neither short requests nor pings waiting.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from . import wire
from .llama import Batch, Context
from .llama_error import LlamaError
from .weights import Model

TOGETHER: Final = 512  # tokens of several inputs that are evaluated at once at most


@dataclass(slots=True, eq=False)
class EmbedWork:
    """An `Embed` whose texts are tokens; `vectors` fills up from the front."""

    request: wire.Embed
    inputs: tuple[list[int], ...]
    n_started: int = 0
    vectors: list[bytes] = field(default_factory=list)

    @property
    def waiting(self) -> bool:
        return self.n_started < len(self.inputs)

    @property
    def answer(self) -> wire.Embedded:
        n_tokens = sum(map(len, self.inputs))
        return wire.Embedded(self.request.id, tuple(self.vectors), n_tokens)


class Embedder:
    """Works off `EmbedWork` with a pooling context."""

    def __init__(self, model: Model, context: Context, batch: Batch) -> None:
        self._model = model
        self._context = context
        self._batch = batch
        self._works: deque[EmbedWork] = deque()

    def __bool__(self) -> bool:
        return bool(self._works)

    def add(self, work: EmbedWork) -> None:
        """Raises LlamaError for what this model can't do."""
        ranks = self._context.pooling == "rank"
        if ranks != (work.request.rerank_query is not None):
            does, what = ("ranks texts", "embed") if ranks else ("embeds texts", "rank")
            raise LlamaError("unsupported", f"this model {does}; it can't {what} them")
        if self._context.pooling in ("none", "unspecified"):
            raise LlamaError("unsupported", "this model does not support embeddings")
        if not 0 < self._width(work) <= self._model.n_embd:
            raise LlamaError("bad_option", f"dimensions must be from 1 to {self._model.n_embd}")
        self._works.append(work)

    def cancel(self, request_id: int) -> None:
        self._works = deque(work for work in self._works if work.request.id != request_id)

    def step(self) -> list[wire.FromRunner]:
        """Evaluates one batch; the answers that are complete with it."""
        planned = self._plan()
        if planned:
            status = self._evaluate(planned[0])
            if status:
                return self._fail({id(work): work for work in planned}, status)
            for sequence, work in enumerate(planned):
                work.vectors.append(self._vector(sequence, work))
        done = [work for work in self._works if not work.waiting]
        self._works = deque(work for work in self._works if work.waiting)
        return [work.answer for work in done]

    def _plan(self) -> list[EmbedWork]:
        """Fills the batch with one input after the other; whose they are, by sequence."""
        self._context.clear()
        self._batch.clear()
        planned: list[EmbedWork] = []
        room = min(self._context.n_ubatch, TOGETHER)
        while len(planned) < self._context.n_parallel:
            work = next((work for work in self._works if work.waiting), None)
            if work is None:
                break
            tokens = work.inputs[work.n_started]
            if len(tokens) > room and planned:  # a long one comes alone
                break
            if len(tokens) <= self._context.n_ubatch:
                self._batch.add_many(tokens, 0, len(planned), output=True, every=True)
            room -= len(tokens)
            work.n_started += 1
            planned.append(work)
            self._works.rotate(-1)
        return planned

    def _evaluate(self, first: EmbedWork) -> int:
        """llama_decode's status for the batch, or for an input of `first` that no batch holds.

        That one comes in pieces, of which the last has what is pooled (`Context.reads_on`).
        Attention that looks both ways needs an input in one piece, and so its limit is the batch.
        """
        tokens, most = first.inputs[first.n_started - 1], self._context.n_ubatch
        if len(tokens) <= most:
            return self._context.decode(self._batch)
        for start in range(0, len(tokens), most):
            self._batch.clear()
            self._batch.add_many(tokens[start : start + most], start, 0, output=True, every=True)
            if status := self._context.decode(self._batch):
                return status
        return 0

    def _vector(self, sequence: int, work: EmbedWork) -> bytes:
        if work.request.rerank_query is not None:
            return struct.pack("<f", self._context.pooled(sequence, 1)[0])
        return _unit(self._context.pooled(sequence, self._model.n_embd)[: self._width(work)])

    def _width(self, work: EmbedWork) -> int:
        asked = work.request.dimensions
        return self._model.n_embd if asked is None else asked

    def _fail(self, failed: dict[int, EmbedWork], status: int) -> list[wire.FromRunner]:
        self._works = deque(work for work in self._works if id(work) not in failed)
        message = f"llama.cpp could not evaluate it (status {status})"
        return [wire.Failed(work.request.id, "decode_failed", message) for work in failed.values()]


def _unit(vector: list[float]) -> bytes:
    """Little-endian float32 of unit length; a vector of zeros stays one."""
    length = math.sqrt(math.fsum(value * value for value in vector)) or 1.0
    return struct.pack(f"<{len(vector)}f", *(value / length for value in vector))
