"""A runner that dies before it has said anything costs nobody an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from qm.daemon.chat.request import Delta, Event, Finished, Request, Started
from qm.daemon.chat.service import ChatService
from qm.daemon.meter import Meter
from qm.daemon.runner.failures import RunnerFailed
from qm.daemon.runner.process import GenerateEvent
from qm.daemon.runner.wire import Chunk, Done, Evaluated
from qm.store.name import Name

COUNTED = Evaluated(1, 3, 0)
ANSWER = (COUNTED, Chunk(1, "Hi"), Done(1, "stop", 3, 0, 1, 1, 1))
ASKED = Request(model="m", prompt="Hello", raw=True)


class Dying:
    """A runner that says so much and dies, unless its answer is whole."""

    def __init__(self, *frames: GenerateEvent) -> None:
        self._frames = frames

    async def generate(self, *_: object) -> AsyncIterator[GenerateEvent]:
        for frame in self._frames:
            yield frame
        if self._frames != ANSWER:
            raise RunnerFailed("it died")

    async def ended(self) -> bool:
        return True


def service(*runners: Dying) -> ChatService:
    """One whose requests go to these runners, one after the other."""
    waiting = list(runners)
    model = SimpleNamespace(
        name=Name.parse("m"), parameters={}, capabilities=("completion",), template=None
    )

    async def found(_name: Name) -> object:
        return model

    @asynccontextmanager
    async def use(*_: object, **__: object) -> AsyncIterator[object]:
        yield SimpleNamespace(runner=waiting.pop(0), loaded=None, load_ns=0, release=lambda: None)

    models: Any = SimpleNamespace(model=found)  # Any: stand-ins, which have what is asked for
    supervisor: Any = SimpleNamespace(use=use)
    nothing: Any = None
    return ChatService(nothing, models, supervisor, nothing, Meter())


async def test_in_the_middle_of_a_prompt() -> None:
    """Another runner answers; that the answer starts is told once."""
    events = [event async for event in service(Dying(COUNTED), Dying(*ANSWER)).answer(ASKED)]
    assert [type(event) for event in events] == [Started, Delta, Finished]


@pytest.mark.parametrize(
    "runners", [(Dying(*ANSWER[:2]), Dying(*ANSWER)), (Dying(COUNTED), Dying(COUNTED))]
)
async def test_an_error_all_the_same(runners: tuple[Dying, ...]) -> None:
    """Where a part of the answer was told, or the second runner dies as well."""
    events: list[Event] = []
    with pytest.raises(RunnerFailed):
        async for event in service(*runners).answer(ASKED):
            events.append(event)  # noqa: PERF401  those before the error count
    assert [type(event) for event in events].count(Started) == 1
    assert not any(isinstance(event, Finished) for event in events)
