"""This process's place in the queue for the CPU; who started it may say that there is one."""

from __future__ import annotations

from typing import Protocol


class Turns(Protocol):
    """How a process and others take turns; see `qm.daemon.turns`."""

    def take(self) -> None:
        """Returns when this process may compute."""

    def give(self, seconds: float) -> object:
        """It has computed for so long; others may be due."""

    def rest(self) -> None:
        """It has nothing to compute for now."""


_places: list[Turns] = []


def line_up(turns: Turns) -> None:
    """From now on this process runs models only when it is its turn."""
    _places[:] = [turns]


def place() -> Turns | None:
    """Where this process lined up; None where it computes without asking anybody."""
    return _places[0] if _places else None
