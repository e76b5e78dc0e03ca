"""What builds must know of the machine: whether weights of a size would fit it.

The daemon writes it down when a build starts, the job's process reads it: it crosses as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from qm.modelfiles.build.automatic import Room as BuildRoom
from qm.store.gguf import Header

from .facts import model_facts
from .fit import fit
from .hardware import Machine
from .placing import DoesNotFit, Room, Wanted, mib
from .runner.wire import Options


class BuildMachine(msgspec.Struct, frozen=True):
    """Host and GPUs as if no model were loaded, and what holds for every model here."""

    machine: Machine
    rooms: tuple[Room, ...]
    wanted: Wanted

    def fits(self, headers: Sequence[Header], size_bytes: int, n_ctx: int | None) -> str:
        """How such a model would be placed with its whole context, empty if it would not fit."""
        first, *others = headers
        facts = model_facts(first, parts=others)
        facts = facts.at_bits(size_bytes * 8 / max(1, facts.n_parameters))
        wishes = Options(num_ctx=n_ctx or self._usual_context(facts.n_ctx_train))
        try:
            return fit(facts, self.machine, wishes, self.wanted, rooms=self.rooms).reason
        except DoesNotFit:
            return ""

    def _usual_context(self, trained: int) -> int:
        usual = self.wanted.context_length or self.wanted.least_context
        return min(usual, trained) if trained else usual

    def told(self) -> str:
        """What there is, in words."""
        gpus = "".join(f" and {mib(room.room_bytes)} on {room.name}" for room in self.rooms)
        return f"{mib(self.machine.available_bytes)} of host memory{gpus} are available"


def build_room(document: dict[str, Any]) -> BuildRoom:  # Any: JSON
    """What `to_builtins` made of a BuildMachine, for a build."""
    machine = msgspec.convert(document, BuildMachine)
    return BuildRoom(machine.fits, machine.told())
