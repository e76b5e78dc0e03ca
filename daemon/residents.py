"""What is in memory, and what the machine would have without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from qm.modelfiles.model import Model

from . import logs
from .facts import ModelFacts
from .hardware import Machine, anonymous_bytes
from .loaded import Process, facts_of
from .questions import Question, Staying
from .runner.wire import Options

_log = logs.Log("residents")
_BACK_LIMIT_S = 3.0  # for the system to count an ended process's memory as available
_STILL_S = 0.2  # nothing came back for so long: somebody else has taken what is missing
_BACK_STEP_S = 0.02
_NEARLY = 32 << 20  # others take and give meanwhile


class Residents:
    """The processes that hold models, by the key of what they run."""

    def __init__(
        self, machine: Callable[[], Machine], limit_bytes: int, model_limit_bytes: int
    ) -> None:
        self._machine = machine
        self._limit_bytes = limit_bytes  # of all models together; 0 is none
        self._model_limit_bytes = model_limit_bytes  # of one
        self._processes: dict[str, Process] = {}

    def __iter__(self) -> Iterator[Process]:
        return iter(self._processes.values())

    def get(self, key: str) -> Process | None:
        return self._processes.get(key)

    def __getitem__(self, key: str) -> Process:
        return self._processes[key]

    def add(self, key: str, process: Process) -> None:
        self._processes[key] = process

    def remove(self, key: str) -> None:
        del self._processes[key]

    def called(self, which: str) -> list[tuple[str, Process]]:
        """Those that run a model of this name or digest, with their keys."""
        return [(key, one) for key, one in self._processes.items() if one.called(which)]

    def host(self) -> Machine:
        """This machine as if no model were loaded; others can be unloaded for a new one.

        Pages of mapped weights count as available, since the system may drop them; what runners
        hold besides them comes back when they end.
        """
        machine = self._machine()
        pids = [one.runner.pid for one in self if one.runner is not None]
        own = sum(map(anonymous_bytes, pids))
        shared = sum(use.total_bytes for one in self for use in one.uses[1:] if use.shares_host)
        available = min(machine.total_bytes, machine.available_bytes + own + shared)
        whole = replace(machine, available_bytes=available)
        return whole.limited(self._limit_bytes, "QM_MEMORY_LIMIT")

    async def wait_until_back(
        self, process: Process, before_bytes: int, own_bytes: int, wanted_bytes: int = 0
    ) -> None:
        """Returns once the memory of an ended runner is really back, or after a while.

        `before_bytes` were available while it ran, `own_bytes` were its own. Those who wait for
        `wanted_bytes` wait no longer than for these: the kernel holds back some of what it got.
        """
        limit_s, most, grown_s = time.monotonic() + _BACK_LIMIT_S, 0, time.monotonic()
        back_bytes = before_bytes + own_bytes - _NEARLY
        if wanted_bytes:
            back_bytes = min(back_bytes, wanted_bytes + _NEARLY)
        while (now := self._machine().available_bytes) < back_bytes:
            if now > most:
                most, grown_s = now, time.monotonic()
            if time.monotonic() >= min(limit_s, grown_s + _STILL_S):
                short = before_bytes + own_bytes - now
                _log.warning("memory_not_back", model=process.model.name, short_bytes=short)
                return
            await asyncio.sleep(_BACK_STEP_S)

    def taken(self, process: Process) -> tuple[int, int]:
        """Bytes that the host has available now, and bytes that this runner has for itself."""
        own = anonymous_bytes(process.runner.pid) if process.runner else 0
        return self._machine().available_bytes, own

    def held(self) -> dict[str, int]:
        """Bytes of each GPU that models hold, which can be unloaded."""
        return dict(self.staying(self._processes).device_bytes)

    def staying(self, keys: Iterable[str]) -> Staying:
        """What the runners of these keys hold, by which no other model may count."""
        kept = [one for key in keys if (one := self._processes.get(key)) is not None]
        devices: dict[str, int] = {}
        for process in kept:
            for use in process.uses[1:]:
                devices[use.device] = devices.get(use.device, 0) + use.total_bytes
        return Staying(sum(one.fit.needed_bytes for one in kept), devices)

    def question(
        self,
        model: Model | None,
        wishes: Options,
        facts: ModelFacts | None = None,
        budgets: Mapping[str, int] | None = None,
    ) -> Question:
        """Where a model would go, were nothing loaded; `facts` are for one that is not here."""
        if facts is None:
            assert model is not None
            facts = facts_of(model)
        host = self.host().limited(self._model_limit_bytes, "QM_MODEL_MEMORY")
        return Question(model, facts, wishes, host, self.held(), budgets=budgets)
