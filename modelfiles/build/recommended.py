"""How the makers of a GGUF want it to be sampled: its `general.sampling.*` metadata."""

from __future__ import annotations

from contextlib import suppress

from qm.store.gguf import Header

from ..parameters import PARAMETERS, OptionError, Value, check

_PREFIX = "general.sampling."
# in the file: its name, and ours
_NAMES = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "penalty_last_n": "repeat_last_n",
    "penalty_repeat": "repeat_penalty",
}
_DIGITS = 6  # of a number that was stored with 32 bits


def recommended(header: Header) -> dict[str, Value]:
    """What can be used of it; strangers wrote it, so the rest is left out."""
    values: dict[str, Value] = {}
    for theirs, ours in _NAMES.items():
        told = header.metadata.get(_PREFIX + theirs)
        if ours not in PARAMETERS or told is None:
            continue
        with suppress(OptionError):
            number = float(f"{told:.{_DIGITS}g}") if isinstance(told, float) else told
            values[ours] = check(ours, number)
    return values
