"""Budgets of devices (`QM_GPU_MEMORY`): which is whose, and which are nobody's. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .devices import RPC, Device, Devices

EACH = ""  # the name of a budget that holds for every device without one of its own


def budget_of(device: Device, budgets: Mapping[str, int]) -> int | None:
    """Bytes for this device, by its name, the address of its worker, or as for each."""
    for name in (device.name, device.endpoint or device.name, EACH):
        if name in budgets:
            return budgets[name]
    return None


def unknown(budgets: Mapping[str, int], devices: Devices) -> tuple[str, ...]:
    """Names that no device has; those of workers that are missing may be right."""
    known = {EACH, *(one for one, _ in devices.missing)}
    for device in devices.gpus:
        known |= {device.name, device.endpoint or device.name}
    maybe = RPC if devices.missing else None
    return tuple(
        name for name in budgets if name not in known and not (maybe and name.startswith(maybe))
    )


def told(names: tuple[str, ...], devices: Devices) -> str:
    """Which names are wrong, and which there are."""
    there = ", ".join(device.name for device in devices.gpus) or "none"
    return f"there is no device {' or '.join(names)}; devices that can hold layers: {there}"
