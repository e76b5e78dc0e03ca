"""What would go where: answers to those who ask without loading anything."""

from __future__ import annotations

from collections.abc import Mapping

from qm.modelfiles.model import Model

from .building import BuildMachine
from .devices import Devices
from .facts import ModelFacts
from .hardware import Machine
from .outlook import Outlook
from .planner import Planner
from .residents import Residents
from .runner.wire import Options


class Prospects:
    """Placement as it would be, with what is in memory counted as if it were gone."""

    def __init__(self, planner: Planner, memory: Residents) -> None:
        self._planner = planner
        self._memory = memory

    async def outlook(
        self,
        facts: ModelFacts,
        wishes: Options,
        budgets: Mapping[str, int] | None,
        model: Model | None,
    ) -> Outlook:
        """Where it would go, were nothing loaded; `model` is None where only facts are here."""
        return await self._planner.outlook(self._memory.question(model, wishes, facts, budgets))

    def context_of(self, model: Model, wishes: Options) -> int:
        """How many tokens of context it would get, as far as that can be told without asking."""
        return self._planner.context_of(self._memory.question(model, wishes))

    async def devices(self) -> Devices:
        """What there is to compute on; of a worker that is in use, as it was before."""
        return await self._planner.devices(self._memory.held())

    async def for_builds(self) -> BuildMachine:
        """What a model that is still to be built may take."""
        held = self._memory.held()
        rooms = self._planner.all_rooms(await self._planner.devices(held), held)
        return BuildMachine(self._memory.host(), rooms, self._planner.wanted)

    def host(self) -> Machine:
        """This machine as if no model were loaded."""
        return self._memory.host()
