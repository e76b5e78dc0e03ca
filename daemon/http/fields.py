"""Reads a client's JSON the way Go's decoder does, and its fields with errors that name them.

Clients of Ollama lean on that decoder: keys match in any case, the last duplicate wins, null
counts as absent, bytes after the document are ignored, broken text is replaced.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, TypeAlias

from qm.store.errors import InvalidRequest

from ..chat import json_text

JsonObject: TypeAlias = dict[str, Any]  # Any: a JSON document that a client wrote

# The parser lets no other thread run: so many values take it some tenths of a second.
MOST_VALUES: Final = 500_000
_MARKS = b",[{"  # each begins a value, or the next one
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS = {bool: "bool", int: "number", str: "string", list: "array", dict: "object"}


class BadJson(InvalidRequest):
    """The body is no JSON document."""

    code = "invalid_json"


class TooManyValues(InvalidRequest):
    """The body has so many values that reading it would stop everybody else."""

    status = 413
    code = "too_many_values"

    def __init__(self) -> None:
        super().__init__(f"the JSON has too many values: at most {MOST_VALUES:,} are read")


class WrongType(InvalidRequest):
    """A field holds a value of another type than the API says, in the words of Go's decoder."""

    code = "wrong_type"

    def __init__(self, path: str, expected: str, value: object) -> None:
        found = f"number {value}" if isinstance(value, float) else _KINDS.get(type(value), "null")
        place = f"struct field {path}" if path else "value"
        super().__init__(f"json: cannot unmarshal {found} into Go {place} of type {expected}")


class Fields:
    """Typed access to one JSON object; every error names the field's path.

    A path begins with the name of the whole document's type, as Go's clients read it:
    "ChatRequest.messages[0].content".
    """

    __slots__ = ("_path", "_values")

    def __init__(self, document: JsonObject, path: str = "Request") -> None:
        self._values = {key.casefold(): value for key, value in document.items()}
        self._path = path

    def path(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def replaced(self, name: str, value: object) -> Fields:
        """The same object with another value of one field."""
        return Fields(self._values | {name.casefold(): value}, self._path)

    def folded(self) -> JsonObject:
        """The whole object, its own keys in lower case."""
        return dict(self._values)

    def raw(self, name: str) -> Any:
        """The value as it came; None when absent."""
        return self._values.get(name.casefold())

    def text(self, name: str, default: str = "") -> str:
        value = self.raw(name)
        return default if value is None else _as_text(value, self.path(name))

    def optional_text(self, name: str) -> str | None:
        value = self.raw(name)
        return None if value is None else _as_text(value, self.path(name))

    def number(self, name: str) -> float | None:
        value = self.raw(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise WrongType(self.path(name), "float64", value)
        return value

    def boolean(self, name: str, default: bool) -> bool:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise WrongType(self.path(name), "bool", value)
        return value

    def integer(self, name: str, default: int = 0) -> int:
        value = self.raw(name)
        return default if value is None else as_integer(value, self.path(name))

    def optional_integer(self, name: str) -> int | None:
        return None if self.raw(name) is None else self.integer(name)

    def document(self, name: str) -> JsonObject:
        """A nested object as it came, keys untouched; empty when absent."""
        value = self.raw(name)
        return {} if value is None else as_object(value, self.path(name))

    def fields(self, name: str) -> Fields:
        return Fields(self.document(name), self.path(name))

    def items(self, name: str, of: str = "any") -> list[tuple[str, Any]]:
        """The elements of an array of `of`, each with its path."""
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise WrongType(self.path(name), f"[]{of}", value)
        return [(f"{self.path(name)}[{index}]", item) for index, item in enumerate(value)]

    def objects(self, name: str, of: str = "map[string]any") -> list[Fields]:
        return [Fields(as_object(item, path, of), path) for path, item in self.items(name, of)]

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(_as_text(item, path) for path, item in self.items(name, "string"))


def field_of(path: str) -> str:
    """The path within the document, without the name of the document's type."""
    return path.partition(".")[2] or path


def as_integer(value: object, path: str) -> int:
    """`value`, known to be a whole number, also one that is written like 8.0. Raises WrongType."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongType(path, "int", value)
    return value


def as_object(value: object, path: str, of: str = "map[string]any") -> JsonObject:
    """`value`, known to be an object. Raises WrongType."""
    if not isinstance(value, dict):
        raise WrongType(path, of, value)
    return value


def _as_text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise WrongType(path, "string", value)
    return value


def decode(body: bytes, of: str = "Request", empty: str = "missing request body") -> JsonObject:
    """The object of type `of` that a body holds; `empty` is said of a body without one.

    Raises BadJson, WrongType and TooManyValues.
    """
    if len(body) > MOST_VALUES and _marks(body) > MOST_VALUES:
        _check_values(body)
    text = body.decode("utf-8-sig", "replace").strip(" \t\r\n")
    if not text:
        raise BadJson(empty)
    document = _parse(text)
    if _LONE_SURROGATE.search(body):
        document = _without_surrogates(document)
    return as_object(document, "", of)


def _check_values(body: bytes) -> None:
    """Counts again, without what stands in strings. Raises TooManyValues."""
    if _marks(_STRING.sub(b"", body)) > MOST_VALUES:
        raise TooManyValues


def _marks(body: bytes) -> int:
    return len(body) - len(body.translate(None, _MARKS))


def _parse(text: str) -> Any:
    try:
        document, _ = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise BadJson(_explain(error)) from error
    except RecursionError as error:
        raise BadJson("the JSON is nested too deeply") from error
    except ValueError as error:  # Python refuses to read integers of thousands of digits
        raise BadJson("a number in the JSON is too long") from error
    return document


def _refuse_constant(name: str) -> float:
    raise BadJson(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise BadJson(f"the number {text[:40]} is out of range")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)

_KEY = "looking for beginning of object key string"
_VALUE = "looking for beginning of value"
_EXPECTED = {
    "Expecting property name enclosed in double quotes": _KEY,
    "Illegal trailing comma before end of object": _KEY,
    "Illegal trailing comma before end of array": _VALUE,
    "Expecting value": _VALUE,
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after a value",
}


def _explain(error: json.JSONDecodeError) -> str:
    """What Ollama's clients are used to read about broken JSON, with the place added."""
    if error.pos >= len(error.doc) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    where = f"line {error.lineno} column {error.colno}"
    expected = _EXPECTED.get(error.msg)
    if expected is None:
        return f"invalid JSON at {where}: {error.msg}"
    return f"invalid character {error.doc[error.pos]!r} {expected}, at {where}"


def _without_surrogates(value: Any) -> Any:
    """Lone halves of UTF-16 pairs can't be sent on as UTF-8: U+FFFD stands in for them."""
    match value:
        case str():
            return json_text.whole(value)
        case list():
            return [_without_surrogates(item) for item in value]
        case dict():
            return {
                _without_surrogates(key): _without_surrogates(item) for key, item in value.items()
            }
        case _:
            return value
