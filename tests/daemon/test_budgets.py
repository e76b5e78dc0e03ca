"""Budgets of devices: which holds for which, and names that no device has."""

from __future__ import annotations

import pytest
from qm.daemon.budgets import budget_of, told, unknown
from qm.daemon.devices import Device, Devices
from qm.daemon.runner.registry import numbered

LOCAL = Device("CUDA0", "a card", "gpu", "CUDA", 8, 8, "CUDA0")
FIRST, SECOND = "10.0.0.1:50052", "10.0.0.2:50052"


def remote(name: str, endpoint: str, index: int = 0) -> Device:
    return Device(name, endpoint, "gpu", "RPC", 8, 8, f"RPC{index}[{endpoint}]", endpoint)


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [
        ({}, None),
        ({"": 5}, 5),
        ({"RPC1": 7, "": 5}, 7),
        ({SECOND: 6, "": 5}, 6),
        ({"RPC1": 0, SECOND: 6}, 0),
        ({"RPC0": 7}, None),
    ],
)
def test_the_closest_budget_holds(budgets: dict[str, int], expected: int | None) -> None:
    """By name, then by the worker's address, then the one for each."""
    assert budget_of(remote("RPC1", SECOND), budgets) == expected


def test_names_that_no_device_has_are_found() -> None:
    """But not those of workers that are missing."""
    found = Devices((LOCAL, remote("RPC0", FIRST)))
    budgets = {"": 1, "CUDA0": 1, "RPC0": 1, FIRST: 1, "CUDA1": 1, "RPC1": 1, SECOND: 1}
    assert unknown(budgets, found) == ("CUDA1", "RPC1", SECOND)
    assert "CUDA1; devices that can hold layers: CUDA0, RPC0" in told(("CUDA1",), found)
    without = Devices(found.devices, missing=((SECOND, "can't be reached"),))
    assert unknown(budgets, without) == ("CUDA1",)


def test_a_missing_worker_leaves_the_names_of_others() -> None:
    """Budgets by name would go to another machine otherwise."""
    found = (LOCAL, remote("RPC0", SECOND), remote("RPC1", SECOND, 1))
    names = [one.name for one in numbered(found, (FIRST, SECOND))]
    assert names == ["CUDA0", "RPC1", "RPC2"]
    both = (LOCAL, remote("RPC1", FIRST), remote("RPC0", SECOND))
    assert [one.name for one in numbered(both, (FIRST, SECOND))] == ["CUDA0", "RPC0", "RPC1"]
