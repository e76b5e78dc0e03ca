"""Objects hold what their schema names."""

from __future__ import annotations

from typing import Any

import pytest
from qm.daemon.runner.schema_closing import closed

TEXT = {"type": "string"}


def test_objects_close_wherever_they_stand() -> None:
    """Also behind names that are keywords elsewhere."""
    open_: dict[str, Any] = {"type": "object", "properties": {"a": TEXT}}
    shut = open_ | {"additionalProperties": False}
    assert closed(open_) == shut
    for make in (
        lambda it: {"items": it},
        lambda it: {"anyOf": [it, TEXT]},
        lambda it: {"$defs": {"properties": it}, "$ref": "#/$defs/properties"},
        lambda it: {"type": "object", "additionalProperties": it},
    ):
        assert closed(make(open_)) == make(shut)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        TEXT,
        {"type": "object"},
        {"properties": {"a": TEXT}, "additionalProperties": True},
        {"properties": {"a": TEXT}, "required": ["b"]},
        {"properties": {"a": TEXT}, "minProperties": 2},
        {"properties": {"a": TEXT}, "patternProperties": {"^b": TEXT}},
        {"properties": {"a": TEXT}, "anyOf": [{"required": ["a"]}]},
        {"allOf": [{"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}]},
        {"enum": [{"properties": {"a": 1}}]},
    ],
)
def test_what_stays_open(schema: object) -> None:
    """Closing these would forbid what they ask for."""
    assert closed(schema) == schema
