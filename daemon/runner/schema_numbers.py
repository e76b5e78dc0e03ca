"""Bounds of numbers, made such that llguidance can keep to them.

It holds bounds as doubles, and those of integers in 64 bits: a bound with more digits would be off
by a little, one that is larger by much. So a bound moves inwards to the next double, and what lies
beyond 64 bits is refused. Pure.
"""

from __future__ import annotations

import math
from typing import Final

from .schema_limits import Json, SchemaError

_EXACT: Final = 2**53  # doubles are exact up to here
_MOST: Final = 2.0**63 - 1024  # the largest double in 64 bits
_LEAST: Final = -(2.0**63)
_UPWARDS: Final = ("minimum", "exclusiveMinimum")
_DOWNWARDS: Final = ("maximum", "exclusiveMaximum")
_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions")
_VALUES: Final = ("const", "enum", "default", "examples")  # no schemas are in there


def bounded(schema: Json) -> Json:
    """The schema with such bounds. Raises SchemaError."""
    if isinstance(schema, list):
        return [bounded(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _member(schema, key, value) for key, value in schema.items()}


def _member(schema: dict[str, Json], key: str, value: Json) -> Json:
    if key in _VALUES:
        return value
    if key in _NAMED and isinstance(value, dict):
        return {name: bounded(each) for name, each in value.items()}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return bounded(value)
    if key == "multipleOf" and value <= 0:
        raise SchemaError(f"multipleOf must be above 0, not {value}")
    if key not in (*_UPWARDS, *_DOWNWARDS) or abs(value) <= _EXACT:
        return value
    return _moved(key, value, whole=schema.get("type") != "number")


def _moved(key: str, value: float, *, whole: bool) -> float:
    """A bound, inwards; of a `whole` number to where 64 bits end, unless it lies beyond that."""
    up = key in _UPWARDS
    try:
        near = float(value)
    except OverflowError:
        raise SchemaError(f"{key} is too large") from None
    if near < value if up else near > value:
        near = math.nextafter(near, math.inf if up else -math.inf)
    if not whole:
        return near
    if near > _MOST if up else near < _LEAST:
        raise SchemaError(f"{key} {value} is beyond 64 bits")
    return int(max(near, _LEAST) if up else min(near, _MOST))
