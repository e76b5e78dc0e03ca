"""Answers an `EmbedRequest` or a `RerankRequest`: the model, a runner for it, numbers for texts."""

from __future__ import annotations

import array
import sys
import time

from qm.modelfiles.model import Model
from qm.modelfiles.models import Models
from qm.store.errors import InvalidRequest
from qm.store.name import Name

from ..runner.failures import GenerateFailed
from ..runner.process import Runner
from ..runner.wire import Embed, Embedded
from ..supervisor import Supervisor
from .another import TRIES, attempt
from .capabilities import check_embedding
from .options import chosen
from .request import Embeddings, EmbedRequest, Metrics, Ranking, RerankRequest


class InputTooLong(InvalidRequest):
    """One of the texts has more tokens than the model takes; both counts are told."""

    code = "prompt_too_long"

    def __init__(self, field: str, tokens: int, limit: int, beside: str = "") -> None:
        super().__init__(
            f"{field} has {tokens} tokens{beside}, more than the {limit} that the model takes; "
            "shorten it, or set truncate"
        )
        self.field = field


class EmbeddingService:
    """Every embedding and ranking of every dialect goes through here."""

    def __init__(self, models: Models, supervisor: Supervisor) -> None:
        self._models = models
        self._supervisor = supervisor

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Raises ModelNotFound, NoEmbeddings, and what loading and the runner raise."""
        frame = Embed(
            id=0,
            texts=request.texts,
            tokens=request.tokens,
            truncate=request.truncate,
            dimensions=request.dimensions,
        )
        return Embeddings(*await self._evaluated(request, frame))

    async def rerank(self, request: RerankRequest) -> Ranking:
        """Raises as `embed`; GenerateFailed for a model that doesn't rank."""
        frame = Embed(
            id=0, texts=request.texts, truncate=request.truncate, rerank_query=request.query
        )
        vectors, metrics = await self._evaluated(request, frame)
        return Ranking(tuple(score for (score,) in vectors), metrics)

    async def _evaluated(
        self, request: EmbedRequest | RerankRequest, frame: Embed
    ) -> tuple[tuple[tuple[float, ...], ...], Metrics]:
        started_ns = time.monotonic_ns()
        model = await self._models.model(Name.parse(request.model))
        check_embedding(model.name, model.capabilities)
        if not frame.texts and not frame.tokens:
            return (), Metrics()
        embedded, load_ns = await self._on_a_runner(model, request, frame)
        metrics = Metrics(
            total_ns=time.monotonic_ns() - started_ns,
            load_ns=load_ns,
            prompt_tokens=embedded.prompt_tokens,
        )
        return tuple(_floats(vector) for vector in embedded.vectors), metrics

    async def _on_a_runner(
        self, model: Model, request: EmbedRequest | RerankRequest, frame: Embed
    ) -> tuple[Embedded, int]:
        """The answer, and how long the runner was waited for; from another one if that dies."""
        for last in TRIES:
            async with (
                self._supervisor.use(
                    model,
                    wishes=chosen(model.parameters, request.options),
                    keep_alive_s=request.keep_alive_s,
                    client=request.client,
                ) as use,
                attempt(use, last=last),
            ):
                return await _embedded(use.runner, frame), use.load_ns
        raise AssertionError("the second try returns or raises")


async def _embedded(runner: Runner, frame: Embed) -> Embedded:
    try:
        return await runner.embed(frame)
    except GenerateFailed as error:
        if error.reason != InputTooLong.code:
            raise
        raise _too_long(frame, error.facts) from error


def _too_long(frame: Embed, facts: dict[str, int]) -> InputTooLong:
    tokens, limit, place = facts["tokens"], facts["limit"], f"[{facts['index']}]"
    if frame.rerank_query is not None:
        return InputTooLong(f"documents{place}", tokens, limit, beside=" with the query")
    alone = len(frame.texts) + len(frame.tokens) == 1
    return InputTooLong("input" if alone else f"input{place}", tokens, limit)


def _floats(data: bytes) -> tuple[float, ...]:
    numbers = array.array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)
