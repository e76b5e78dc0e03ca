"""How Go sees values: truth, printing, JSON, fields, lengths and comparison.

Strings, numbers, booleans and None are themselves; lists are slices, dicts are maps, and `Struct`
is what has named fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import ExecutionError

Value: TypeAlias = Any  # Any: whatever a template computes with


@dataclass(frozen=True, slots=True)
class Struct:
    """A value with a fixed set of fields. It prints as its `document` in JSON, when it has one."""

    type_name: str
    fields: Mapping[str, Value]
    document: Value = None


class Document(dict[str, Value]):
    """A map that keeps its order and prints as JSON, as tool arguments do."""


class Tools(list[Struct]):
    """The tools of a conversation: a list that prints as JSON, as null where there are none."""


class Kinds(list[str]):
    """The types of a tool's property: a list that prints as its only element where it has one."""

    @property
    def only(self) -> str | None:
        return self[0] if len(self) == 1 else None


def field(value: Value, name: str) -> Value:
    """`value.name`; a key that a map lacks is None. Raises ExecutionError."""
    if isinstance(value, Struct):
        if name not in value.fields:
            raise ExecutionError(f"can't evaluate field {name} in type {value.type_name}")
        return value.fields[name]
    if isinstance(value, Mapping):
        return value.get(name)
    if value is None:
        raise ExecutionError(f"nil pointer evaluating interface {{}}.{name}")
    raise ExecutionError(f"can't evaluate field {name} in type {type_name(value)}")


def truth(value: Value) -> bool:
    """False for zero, nil and what is empty; a struct is always true."""
    return isinstance(value, Struct) or bool(value)


def type_name(value: Value) -> str:
    """The Go type that error messages name."""
    match value:
        case None:
            return "nil"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case Struct():
            return value.type_name
        case Mapping():
            return "map[string]interface {}"
        case _:
            return "[]interface {}"


def printed(value: Value, *, nil: str = "<no value>") -> str:
    """`value` as fmt's %v prints it."""
    match value:
        case None:
            return nil
        case bool():
            return "true" if value else "false"
        case float():
            return _float(value)
        case Struct() if value.document is None:
            inside = " ".join(printed(item, nil="<nil>") for item in value.fields.values())
            return f"{{{inside}}}"
        case Struct() | Document() | Tools():
            return to_json(value)
        case Kinds() if len(value) < 2:
            return value.only or ""
        case Mapping():
            pairs = (f"{key}:{printed(value[key], nil='<nil>')}" for key in sorted(value))
            return f"map[{' '.join(pairs)}]"
        case list() | tuple():
            return f"[{' '.join(printed(item, nil='<nil>') for item in value)}]"
        case _:
            return str(value)


def _float(value: float) -> str:
    """The shortest digits that read back equal, with an exponent where Go writes one."""
    digits = repr(value)
    mantissa, _, exponent = f"{value:e}".partition("e")
    if value == 0 or -4 <= int(exponent or 0) < 21:
        text = f"{value:f}" if "e" in digits else digits
        return text.rstrip("0").rstrip(".") if "." in text else text
    shortest = digits.partition("e")[0] if "e" in digits else mantissa
    shortest = shortest.rstrip("0").rstrip(".") if "." in shortest else shortest
    return f"{shortest}e{int(exponent):+03d}"


def to_json(value: Value) -> str:
    """JSON without spaces, with <, > and & escaped, as Go's encoder writes it."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Value) -> Value:
    match value:
        case Struct():
            return _plain(value.fields if value.document is None else value.document)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case Tools() if not value:
            return None
        case list() | tuple():
            return [_plain(item) for item in value]
        case float() if value.is_integer() and abs(value) < 1e21:
            return int(value)
        case _:
            return value


def length(value: Value) -> int:
    """What `len` gives: bytes of a string, items of anything else. Raises ExecutionError."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | tuple | Mapping):
        return len(value)
    raise ExecutionError(f"error calling len: len of type {type_name(value)}")


def equal(left: Value, right: Value) -> bool:
    """Raises ExecutionError for values of kinds that can't be compared."""
    left, right = _only(left), _only(right)
    kinds = _kind(left), _kind(right)
    if None in (left, right):
        return left is right
    if kinds[0] != kinds[1] or kinds[0] == "other":
        raise ExecutionError("error calling eq: incompatible types for comparison")
    return bool(left == right)


def _only(value: Value) -> Value:
    """A property of one type compares as that type, though Go has a list there."""
    return value.only if isinstance(value, Kinds) and value.only else value


def less(left: Value, right: Value) -> bool:
    """Raises ExecutionError for values of kinds that have no order."""
    kind = _kind(left)
    if kind != _kind(right) or kind not in ("number", "string"):
        raise ExecutionError("error calling lt: incompatible types for comparison")
    return bool(left < right)


def _kind(value: Value) -> str:
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case _:
            return "other"
