"""Tokens of a text and back, by the tokenizer of a loaded model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qm.modelfiles.models import Models
from qm.store.name import Name

from ..runner.process import Runner
from ..runner.wire import Options
from ..supervisor import Supervisor
from .options import chosen


class TokenService:
    """Loads the model where that is needed: a tokenizer lives with its weights."""

    def __init__(self, models: Models, supervisor: Supervisor) -> None:
        self._models = models
        self._supervisor = supervisor

    async def tokenize(
        self, model: str, text: str, *, special: bool, keep_alive_s: float | None = None
    ) -> list[int]:
        """`special` adds what the model puts around every prompt, and reads its marks in `text`."""
        async with self._runner(model, keep_alive_s) as runner:
            return await runner.tokenize(text, add_special=special, parse_special=special)

    async def detokenize(
        self, model: str, tokens: list[int], *, keep_alive_s: float | None = None
    ) -> str:
        async with self._runner(model, keep_alive_s) as runner:
            return await runner.detokenize(tokens)

    @asynccontextmanager
    async def _runner(self, name: str, keep_alive_s: float | None) -> AsyncIterator[Runner]:
        model = await self._models.model(Name.parse(name))
        wishes = chosen(model.parameters, Options())
        async with self._supervisor.use(model, wishes=wishes, keep_alive_s=keep_alive_s) as use:
            yield use.runner
