"""Which graphics cards this machine has, as far as the system tells without their drivers."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

_CARDS = Path("/sys/class/drm")
_VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}


def graphics_cards(cards: Path = _CARDS) -> tuple[str, ...]:
    """Their makers, each once: nvidia, amd, intel, apple."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return ("apple",)
    found = {}
    for vendor in sorted(cards.glob("card[0-9]*/device/vendor")):
        try:
            found[_VENDORS.get(vendor.read_text().strip(), "")] = True
        except OSError:
            continue  # it has just been taken out
    if Path("/dev/nvidiactl").exists():
        found["nvidia"] = True
    return tuple(maker for maker in found if maker)
