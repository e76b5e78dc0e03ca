"""Whether flash attention pays on this CPU, for heads of a model's width.

llama.cpp's kernel for a token adds up values in vectors of 16-bit floats, so many at a time. What
doesn't fill them goes number by number, and with AVX512-FP16 it is 128 that do (`GGML_F16_STEP`):
heads of 64 or 96 numbers then take as long as ten times as many. At 1,000 cells that doubles the
time of a token. Without flash attention llama.cpp multiplies matrices instead, for which any width
will do, at the price of a buffer for the product.

It goes by what the processor can, not by a clock, since a dry run and the load that it foretells
have to come to the same.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

TOKENS_TOGETHER: Final = 64  # evaluated at once without it: the buffer grows with them
_FULL: Final = 128  # numbers
_PROCESSORS: Final = Path("/proc/cpuinfo")


def is_slow(width: int) -> bool:
    """Whether flash attention with heads of `width` numbers is far slower than without."""
    return width % _FULL != 0 and has_wide_vectors()


@cache
def has_wide_vectors(processors: Path = _PROCESSORS) -> bool:
    """Whether a native build adds up 128 numbers of 16 bits at a time; False if nobody tells."""
    try:
        with processors.open() as lines:  # of each processor the same: the first one's are enough
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_fp16" in flags.split()
