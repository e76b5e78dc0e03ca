"""Answers an `EmbedRequest`: the model, a runner for it, one vector a text."""

from __future__ import annotations

import array
import asyncio
import sys
import time

from qm.modelfiles.model import load_model
from qm.store.name import Name
from qm.store.store import Store

from ..runner.wire import Embed
from ..supervisor import Supervisor
from .capabilities import check_embedding
from .options import chosen
from .request import Embeddings, EmbedRequest, Metrics


class EmbeddingService:
    """Every embedding of every dialect goes through here."""

    def __init__(self, store: Store, supervisor: Supervisor) -> None:
        self._store = store
        self._supervisor = supervisor

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Raises ModelNotFound, NoEmbeddings, and what loading and the runner raise."""
        started_ns = time.monotonic_ns()
        model = await asyncio.to_thread(load_model, self._store, Name.parse(request.model))
        check_embedding(request, model.name, model.capabilities)
        if not request.texts and not request.tokens:
            return Embeddings((), Metrics())
        frame = Embed(
            id=0,
            texts=request.texts,
            tokens=request.tokens,
            truncate=request.truncate,
            dimensions=request.dimensions,
        )
        async with self._supervisor.use(
            model,
            wishes=chosen(model.parameters, request.options),
            keep_alive_s=request.keep_alive_s,
            client=request.client,
        ) as use:
            embedded = await use.runner.embed(frame)
        metrics = Metrics(
            total_ns=time.monotonic_ns() - started_ns,
            load_ns=use.load_ns,
            prompt_tokens=embedded.prompt_tokens,
        )
        return Embeddings(tuple(_floats(vector) for vector in embedded.vectors), metrics)


def _floats(data: bytes) -> tuple[float, ...]:
    numbers = array.array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)
