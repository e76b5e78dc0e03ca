"""Where what belongs to a model goes: projector and draft model beside it. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from .devices import CPU
from .runner.wire import Placement

ALL_LAYERS: Final = 999


def companion_device(placement: Placement) -> str:
    """The device that has projector and draft model."""
    return placement.devices[0] if placement.companions_on_gpu and placement.devices else CPU


def draft_placement(placement: Placement) -> Placement:
    """A draft model's: whole on the first GPU of its model's, or on the CPU."""
    on_gpu = companion_device(placement) != CPU
    return msgspec.structs.replace(
        placement,
        devices=placement.devices[:1] if on_gpu else (),
        n_gpu_layers=ALL_LAYERS if on_gpu else 0,
        layers=(),
        overrides=(),
        main_gpu=0,
    )
