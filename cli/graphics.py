"""Which graphics cards this machine has, as far as the system tells without their drivers."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MAKERS = ("nvidia", "amd", "intel", "apple")
_VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_DISPLAY = "0x03"  # the PCI class of what can draw
_DRIVER_FILES = {
    "dev/nvidiactl": "nvidia",
    "proc/driver/nvidia/version": "nvidia",
    "dev/kfd": "amd",
    "System/Library/Frameworks/Metal.framework": "apple",
}
_TOOLS = {"nvidia": ("nvidia-smi", "-L"), "amd": ("rocm-smi", "--showproductname")}
_TOOL_LIMIT_S = 5.0


def run_tool(command: tuple[str, ...]) -> str:
    """What a program prints; nothing where it is missing, fails or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(
            (program, *command[1:]), capture_output=True, timeout=_TOOL_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


@dataclass(frozen=True, slots=True)
class System:
    """Where to look: the files of a machine, what it is, and the programs of drivers."""

    root: Path = Path("/")
    machine: str = platform.machine()
    run: Callable[[tuple[str, ...]], str] = run_tool


def graphics_cards(system: System | None = None) -> tuple[str, ...]:
    """Their makers, each once: nvidia, amd, intel, apple."""
    found = set(_makers(system or System()))
    return tuple(maker for maker in MAKERS if maker in found)


def _makers(system: System) -> Iterator[str]:
    for path, maker in _DRIVER_FILES.items():
        if (system.root / path).exists() and _is_possible(maker, system):
            yield maker
    sys = system.root / "sys"
    for vendor in sys.glob("class/drm/card[0-9]*/device/vendor"):
        yield _VENDORS.get(_read(vendor), "")
    for kind in sys.glob("bus/pci/devices/*/class"):  # also where no driver took it
        if _read(kind).startswith(_DISPLAY):
            yield _VENDORS.get(_read(kind.with_name("vendor")), "")
    for maker, command in _TOOLS.items():
        if "GPU" in system.run(command):  # in containers it may be all that there is
            yield maker


def _is_possible(maker: str, system: System) -> bool:
    """Intel's Macs have Metal too, but llama.cpp is slower by it than on their CPU."""
    return maker != "apple" or system.machine == "arm64"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # it has just been taken out
