"""The 8-bit floating point formats of checkpoints, decoded through a table."""

from __future__ import annotations

from functools import cache

import numpy as np

from .tensor import Array


def decode_e4m3(codes: Array) -> Array:
    """4 bits exponent, 3 bits mantissa, no infinities (the variant called `fn`)."""
    return np.take(_table(4, 7), codes)


def decode_e5m2(codes: Array) -> Array:
    """5 bits exponent, 2 bits mantissa, infinities as in IEEE."""
    return np.take(_table(5, 15), codes)


def decode_e8m0(codes: Array) -> Array:
    """8 bits exponent and nothing else, for scales."""
    return np.take(
        np.append(np.ldexp(np.float32(1), np.arange(-127, 128)), np.float32("nan")), codes
    )


@cache
def _table(exponent_bits: int, bias: int) -> Array:
    mantissa_bits = 7 - exponent_bits
    codes = np.arange(256)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    normal = np.ldexp(1 + mantissa, exponent - bias)
    values = np.where(exponent > 0, normal, np.ldexp(mantissa, 1 - bias))
    _mark_specials(values, codes & 0x7F, exponent_bits)
    return np.where(codes & 0x80, -values, values).astype(np.float32)


def _mark_specials(values: Array, magnitude: Array, exponent_bits: int) -> None:
    if exponent_bits == 5:
        values[magnitude == 0x7C] = np.inf
        values[magnitude > 0x7C] = np.nan
    else:
        values[magnitude == 0x7F] = np.nan
