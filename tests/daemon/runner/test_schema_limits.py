"""Schemas that are too much, and schemas that no document can satisfy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from qm.daemon.runner.schema_limits import SchemaError, checked


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"anyOf": [schema]}
    return schema


TREE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "children": {"type": "array", "items": {"$ref": "#"}},
    },
    "required": ["value", "children"],
}
LIST = {
    "$defs": {
        "link": {
            "type": "object",
            "properties": {"next": {"$ref": "#/$defs/maybe"}},
            "required": ["next"],
        },
        "maybe": {"anyOf": [{"$ref": "#/$defs/link"}, {"type": "null"}]},
    },
    "$ref": "#/$defs/link",
}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        TREE,
        LIST,
        nested(30),
        {"pattern": r"^\d{3}-[^+x]+(a|b)?(?:c*)\^+$"},
        {"pattern": "[]^+]"},
        {"properties": {"pattern": {"type": "string"}}},
    ],
)
def test_what_is_fine(schema: object) -> None:
    assert checked(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (nested(40), "deeper than 64"),
        ({"description": "x" * 200_000}, "more than 131072 bytes"),
        ({"pattern": "a" * 1001}, "more than 1000 characters"),
        ({"pattern": "(" * 65}, "more than 64 nested groups"),
        ({"pattern": "a{5000}"}, "more than 1000 repetitions"),
        ({"pattern": "a{1,99999999999}"}, "more than 1000 repetitions"),
        ({"pattern": "^+x"}, "nothing to repeat before '\\+'"),
        ({"pattern": "a|*"}, "nothing to repeat"),
        ({"pattern": "a**"}, "nothing to repeat"),
        ({"patternProperties": {"^*": {}}}, "nothing to repeat"),
        ({"properties": {"a": {"items": {"pattern": "a{5000}"}}}}, "repetitions"),
        ({"$ref": "#"}, "without an end"),
        (
            {
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
                "$ref": "#/$defs/a",
            },
            "without an end",
        ),
        (
            {"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]},
            "without an end",
        ),
        ({"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "without an end"),
        ({"anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}]}, "without an end"),
    ],
)
def test_what_is_refused(schema: object, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        checked(json.dumps(schema))


def test_a_depth_beyond_python_is_refused_too() -> None:
    with pytest.raises(SchemaError, match="deeper than 64"):
        checked('{"anyOf":[' * 6000 + "{}" + "]}" * 6000)
