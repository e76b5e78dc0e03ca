"""What is asked of placement: a model, what is wished of it, and the memory it may count on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from qm.modelfiles.model import Model

from .facts import ModelFacts
from .hardware import Machine
from .placing import Fit, Room
from .runner.wire import Options


@dataclass(frozen=True, slots=True)
class Staying:
    """What models hold that are not unloaded for this one."""

    host_bytes: int = 0
    device_bytes: Mapping[str, int] = field(default_factory=dict)

    def left_of(self, room: Room) -> Room:
        """What they leave of a device; of a remote one nothing, since it serves one runner."""
        held = self.device_bytes.get(room.name, 0)
        taken = room.room_bytes if room.remote and held else held
        return replace(room, room_bytes=max(0, room.room_bytes - taken))


NOBODY = Staying()


@dataclass(frozen=True, slots=True)
class Question:
    """Where would this model go? `machine` is the host as if no model were loaded."""

    model: Model | None  # None: it is not here, so nothing can be measured
    facts: ModelFacts
    wishes: Options
    machine: Machine
    held: Mapping[str, int] = field(default_factory=dict)  # of each GPU, by all that are loaded
    staying: Staying = NOBODY  # by those that stay whatever comes
    others: Staying = NOBODY  # by all others: those that could stay too
    spared: Mapping[str, int] = field(default_factory=dict)  # room that a failed load proved false
    budgets: Mapping[str, int] | None = None  # instead of QM_GPU_MEMORY

    @property
    def host(self) -> Machine:
        """The host without what those have that stay."""
        left = max(0, self.machine.available_bytes - self.staying.host_bytes)
        return replace(self.machine, available_bytes=left)

    @property
    def beside_all(self) -> Question:
        """The same with nobody unloaded for it."""
        return replace(self, staying=self.others)

    @property
    def beside_none(self) -> Question:
        """The same as if nothing at all were loaded."""
        return replace(self, staying=NOBODY, others=NOBODY)


def with_whole_rooms(found: Fit, rooms: tuple[Room, ...]) -> Fit:
    """`found` with devices as they are without any model, which is what the scheduler counts in."""
    whole = {room.name: room.room_bytes for room in rooms}
    host, *devices = found.uses
    uses = (replace(use, room_bytes=whole.get(use.device, use.room_bytes)) for use in devices)
    return replace(found, uses=(host, *uses))
