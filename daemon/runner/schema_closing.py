"""Closes a JSON Schema's objects: what it names is what an answer holds. Pure.

By the standard an object may hold anything beside its `properties`; a model that may go on often
does. Every document of the closed schema satisfies the open one too.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = Any  # any JSON value

_IN_OBJECTS = ("properties", "patternProperties", "$defs", "definitions")
_IN_LISTS = ("anyOf", "oneOf", "prefixItems", "items")
_ALONE = ("items", "additionalProperties")
_OPEN_ON_PURPOSE = frozenset(
    {"additionalProperties", "unevaluatedProperties", "patternProperties", "$ref", "anyOf", "oneOf"}
)


def closed(schema: Json) -> Json:
    """`schema` with `additionalProperties: false` wherever that leaves its meaning alone.

    Parts that `allOf` joins need each other's properties: a schema with one stays as it is.
    """
    return schema if _has_key(schema, "allOf") else _closed(schema)


def _closed(schema: Json) -> Json:
    if not isinstance(schema, dict):
        return schema
    parts = dict(schema)
    for key in _IN_OBJECTS:
        if isinstance(parts.get(key), dict):
            parts[key] = {name: _closed(value) for name, value in parts[key].items()}
    for key in _IN_LISTS:
        if isinstance(parts.get(key), list):
            parts[key] = [_closed(value) for value in parts[key]]
    for key in _ALONE:
        if isinstance(parts.get(key), dict):
            parts[key] = _closed(parts[key])
    if _may_close(parts):
        parts["additionalProperties"] = False
    return parts


def _may_close(schema: dict[str, Json]) -> bool:
    properties, required = schema.get("properties"), schema.get("required", [])
    return (
        isinstance(properties, dict)
        and not _OPEN_ON_PURPOSE & schema.keys()
        and isinstance(required, list)
        and all(isinstance(name, str) and name in properties for name in required)
        and _least(schema) <= len(properties)
    )


def _least(schema: dict[str, Json]) -> int:
    least = schema.get("minProperties", 0)
    return least if isinstance(least, int) else 0


def _has_key(value: Json, name: str) -> bool:
    if isinstance(value, dict):
        return name in value or any(_has_key(item, name) for item in value.values())
    return isinstance(value, list) and any(_has_key(item, name) for item in value)
