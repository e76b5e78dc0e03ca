"""What a runner does to itself before it touches a model."""

from __future__ import annotations

import ctypes
import platform
import resource
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_TINY_STACK_BYTES: Final = 8192  # valid, but too small for the registers of AMX
_SWITCH_S: Final = 0.0005  # how long the intake thread may keep the loop from its next step


class _SignalStack(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_tiny_stack: Final = ctypes.create_string_buffer(_TINY_STACK_BYTES)  # the kernel keeps its address


def isolate() -> None:
    """Call once, on the main thread, before llama.cpp starts."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # prompts don't belong into a core file
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_S)
    forgo_amx()


def forgo_amx() -> None:
    """Makes the kernel refuse AMX to this process, so that ggml takes its AVX kernels.

    ggml's AMX kernels die with SIGILL (`tilezero` without a tile configuration) on virtual
    machines that announce AMX. ggml asks the kernel for leave and has no switch of its own; the
    kernel denies it to a process whose signal stack couldn't hold the tile registers.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return
    stack = _SignalStack(ctypes.addressof(_tiny_stack), 0, _TINY_STACK_BYTES)
    ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)
