"""Whether flash attention pays on this CPU, for heads of a model's width.

llama.cpp's kernel for a token adds up values in vectors of 16-bit floats, so many at a time. What
doesn't fill them goes number by number, and with AVX512-FP16 it is 128 that do (`GGML_F16_STEP`):
heads of 64 or 96 numbers then take as long as ten times as many. At 1,000 cells that doubles the
time of a token. Without flash attention llama.cpp multiplies matrices instead, for which any width
will do, at the price of a buffer for the product.

Our own builds leave these instructions out (`install/llama-cpp.sh`). It goes by what the processor
and the build can, not by a clock, since a dry run and the load that it foretells have to come to
the same.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Final

from qm.modelfiles.native import declare

TOKENS_TOGETHER: Final = 64  # evaluated at once without it: the buffer grows with them
_FULL: Final = 128  # numbers
_PROCESSORS: Final = Path("/proc/cpuinfo")


def is_slow(width: int) -> bool:
    """Whether flash attention with heads of `width` numbers is far slower than without."""
    return width % _FULL != 0 and has_wide_vectors()


def takes_parts(width: int) -> bool:
    """Whether parts of its tiles take no longer for each token than whole ones.

    Narrow heads take a third longer where tokens don't fill a tile, for they come one by one then.
    """
    return width >= _FULL


@cache
def has_wide_vectors() -> bool:
    """Whether this build, on this processor, adds up 128 numbers of 16 bits at a time."""
    return may_be_wide(_flags(_PROCESSORS), _has_amx())


def may_be_wide(flags: frozenset[str], has_amx: bool) -> bool:
    """The same for a processor with these `flags` and a build with or without AMX. Pure.

    ggml doesn't tell whether it was built with AVX512-FP16. But where a processor has AMX too, a
    native build has both, and others have neither.
    """
    return "avx512_fp16" in flags and (has_amx or "amx_int8" not in flags)


def _has_amx() -> bool:
    try:
        return bool(declare("ggml_cpu_has_amx_int8", ctypes.c_int)())
    except AttributeError:  # kernels in a library of their own, of which ggml chooses the best
        return True


def _flags(processors: Path) -> frozenset[str]:
    """What the first processor can: each can the same. Nothing if nobody tells."""
    try:
        with processors.open() as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return frozenset()
    return frozenset(flags.split())
