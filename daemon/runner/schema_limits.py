"""What a JSON Schema may ask for: limits that keep compiling it short, and schemas without an end.

Pure. llguidance checks everything else, within limits of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

MAX_BYTES: Final = 131_072
MAX_DEPTH: Final = 64
MAX_PATTERN_CHARACTERS: Final = 1000
MAX_PATTERN_DEPTH: Final = 64
MAX_REPETITIONS: Final = 1000
_MAX_STEPS: Final = 10_000  # for finding an end; a schema that takes more is taken to have one
_PART: Final = re.compile(
    r"(?P<escape>\\.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?[:=!<]{1,2})?)|(?P<close>\))"
    r"|(?P<bounds>\{(?P<low>\d*),?(?P<high>\d*)\}\??)|(?P<sign>[*+?]\??)|(?P<edge>[\^$|])|(?P<plain>.)",
    re.DOTALL | re.ASCII,
)
_REPEATS: Final = ("bounds", "sign")
_NOT_REPEATABLE: Final = (None, "open", "edge", *_REPEATS)

Json: TypeAlias = Any  # any JSON value


class SchemaError(Exception):
    """The schema is beyond a limit or can't be satisfied; the message says why."""


def checked(text: str) -> Json:
    """The schema that `text` holds. Raises SchemaError."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise SchemaError(f"the schema has more than {MAX_BYTES} bytes")
    try:
        schema = json.loads(text)
    except RecursionError:
        raise SchemaError(f"the schema is nested deeper than {MAX_DEPTH} levels") from None
    for pattern in _patterns(schema, 0):
        _check_pattern(pattern)
    if not _Ends(schema).ends(schema, ()):
        raise SchemaError("the schema refers to itself without an end")
    return schema


def _patterns(value: Json, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise SchemaError(f"the schema is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        for item in value:
            yield from _patterns(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "pattern" and isinstance(item, str):
                yield item
            if key == "patternProperties" and isinstance(item, dict):
                yield from item
            yield from _patterns(item, depth + 1)


def _check_pattern(pattern: str) -> None:
    shown = pattern if len(pattern) <= 60 else pattern[:57] + "..."
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise SchemaError(f"pattern '{shown}' has more than {MAX_PATTERN_CHARACTERS} characters")
    depth, before = 0, None
    for part in _PART.finditer(pattern):
        kind = part.lastgroup
        depth += (kind == "open") - (kind == "close")
        if depth > MAX_PATTERN_DEPTH:
            raise SchemaError(f"pattern '{shown}' has more than {MAX_PATTERN_DEPTH} nested groups")
        if kind in _REPEATS and before in _NOT_REPEATABLE:
            raise SchemaError(f"pattern '{shown}': nothing to repeat before '{part[0][:20]}'")
        if kind == "bounds" and max(_count(part["low"]), _count(part["high"])) > MAX_REPETITIONS:
            raise SchemaError(f"pattern '{shown}' asks for more than {MAX_REPETITIONS} repetitions")
        before = kind


def _count(digits: str) -> int:
    return int(digits[:9] or 0)


class _Ends:
    """Whether some finite document can satisfy a schema, as far as its references tell."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._steps = 0

    def ends(self, schema: Json, following: tuple[str, ...]) -> bool:
        """`following` are the references that led here: coming back to one of them is no end."""
        self._steps += 1
        if not isinstance(schema, dict) or self._steps > _MAX_STEPS:
            return True
        return (
            self._reference_ends(schema.get("$ref"), following)
            and all(self.ends(each, following) for each in _list(schema.get("allOf")))
            and self._one_ends(schema.get("anyOf"), following)
            and self._one_ends(schema.get("oneOf"), following)
            and all(self.ends(each, following) for each in _needed(schema))
        )

    def _one_ends(self, choices: Json, following: tuple[str, ...]) -> bool:
        listed = _list(choices)
        return not listed or any(self.ends(each, following) for each in listed)

    def _reference_ends(self, reference: Json, following: tuple[str, ...]) -> bool:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return True
        if reference in following:
            return False
        return self.ends(self._target(reference), (*following, reference))

    def _target(self, reference: str) -> Json:
        target = self._root
        for part in filter(None, reference.removeprefix("#").split("/")):
            key = part.replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, dict) else None
        return target


def _needed(schema: dict[str, Json]) -> list[Json]:
    """The schemas whose values every document of `schema` holds."""
    kind = schema.get("type")
    if kind == "object" and isinstance(schema.get("properties"), dict):
        required = [name for name in _list(schema.get("required")) if isinstance(name, str)]
        return [schema["properties"].get(name) for name in required]
    least = schema.get("minItems")
    if kind == "array" and isinstance(least, int) and least > 0:
        first = _list(schema.get("prefixItems"))[:least]
        return first if len(first) == least else [*first, schema.get("items")]
    return []


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
