"""Bounds that llguidance can keep to."""

from __future__ import annotations

import pytest
from qm.daemon.runner.schema_limits import SchemaError
from qm.daemon.runner.schema_numbers import bounded

MOST, LEAST = 2**63 - 1024, -(2**63)


@pytest.mark.parametrize(
    ("schema", "becomes"),
    [
        ({"minimum": 3, "maximum": 4.5}, {"minimum": 3, "maximum": 4.5}),
        ({"minimum": 2**53 + 1}, {"minimum": 2**53 + 2}),
        ({"maximum": 2**53 + 1}, {"maximum": 2**53}),
        ({"minimum": -(2**53) - 1}, {"minimum": -(2**53)}),
        ({"exclusiveMaximum": 2**63 - 1}, {"exclusiveMaximum": MOST}),
        ({"minimum": -(10**30), "maximum": 1e300}, {"minimum": LEAST, "maximum": MOST}),
        ({"type": "number", "maximum": 1e300}, {"type": "number", "maximum": 1e300}),
        ({"maximum": True, "multipleOf": 7}, {"maximum": True, "multipleOf": 7}),
    ],
)
def test_bounds_move_inwards(schema: dict[str, object], becomes: dict[str, object]) -> None:
    """To the next double, and into 64 bits; wherever they stand."""
    assert bounded(schema) == becomes
    nested = {"properties": {"const": {"items": [schema]}}, "default": schema}
    expected = {"properties": {"const": {"items": [becomes]}}, "default": schema}
    assert bounded(nested) == expected


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"minimum": 2**63}, "minimum 9223372036854775808 is beyond 64 bits"),
        ({"anyOf": [{"maximum": -(10**30)}]}, "is beyond 64 bits"),
        ({"type": "number", "exclusiveMinimum": 10**400}, "exclusiveMinimum is too large"),
        ({"items": {"multipleOf": 0}}, "multipleOf must be above 0, not 0"),
        ({"multipleOf": -2.5}, "multipleOf must be above 0"),
    ],
)
def test_what_no_number_can_be_is_refused(schema: dict[str, object], reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        bounded(schema)
