"""The functions that templates may call: Go's own and those that Ollama adds."""

from __future__ import annotations

import datetime
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Final

from . import values
from .errors import ExecutionError
from .values import Value, printed

Callback = Callable[..., Value]


def _index(value: Value, *keys: Value) -> Value:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple | str) and isinstance(key, int):
            if not 0 <= key < values.length(value):
                raise ExecutionError(f"error calling index: index out of range: {key}")
            value = value.encode()[key] if isinstance(value, str) else value[key]
        else:
            raise ExecutionError(
                f"error calling index: can't index item of type {values.type_name(value)}"
            )
    return value


def _slice(value: Value, *bounds: Value) -> Value:
    if not isinstance(value, list | tuple | str):
        raise ExecutionError(
            f"error calling slice: can't slice item of type {values.type_name(value)}"
        )
    size = values.length(value)
    start, end = [*bounds, *(0, size)[len(bounds) :]][:2]
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= size):
        raise ExecutionError(f"error calling slice: index out of range: {printed(list(bounds))}")
    if isinstance(value, str):
        return value.encode()[start:end].decode(errors="replace")
    return value[start:end]


def _eq(first: Value, *others: Value) -> bool:
    if not others:
        raise ExecutionError("error calling eq: missing argument for comparison")
    return any(values.equal(first, other) for other in others)


def _print(*arguments: Value) -> str:
    """Spaces stand between operands when neither is a string."""
    text = ""
    for position, argument in enumerate(arguments):
        neighbours = arguments[max(position - 1, 0) : position + 1]
        if position and not any(isinstance(value, str) for value in neighbours):
            text += " "
        text += printed(argument, nil="<nil>")
    return text


def _println(*arguments: Value) -> str:
    return " ".join(printed(argument, nil="<nil>") for argument in arguments) + "\n"


_VERB = re.compile(r"%([-+# 0]*)(\d{0,4})(?:\.(\d{0,4}))?([a-zA-Z%])")


def _printf(pattern: Value, *arguments: Value) -> str:
    if not isinstance(pattern, str):
        raise ExecutionError("error calling printf: the format is no string")
    rest = list(arguments)

    def replaced(match: re.Match[str]) -> str:
        if match[4] == "%":
            return "%"
        if not rest:
            return f"%!{match[4]}(MISSING)"
        return _formatted(match, rest.pop(0))

    text = _VERB.sub(replaced, pattern)
    if rest:
        extra = ", ".join(f"{values.type_name(value)}={printed(value)}" for value in rest)
        text += f"%!(EXTRA {extra})"
    return text


def _formatted(match: re.Match[str], value: Value) -> str:
    flags, width, precision, verb = match.groups()
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if verb in "vs" or (verb == "t" and isinstance(value, bool)):
        text = printed(value, nil="<nil>")
        text = text if precision is None or verb != "s" else text[: int(precision or 0)]
    elif verb == "q" and isinstance(value, str):
        text = values.to_json(value)
    elif verb in "dxXob" and isinstance(value, int) and number:
        text = format(value, ("+" if "+" in flags else "") + verb)
    elif verb in "feEgG" and number:
        digits = "" if precision is None else f".{precision or 0}"
        text = format(float(value), ("+" if "+" in flags else "") + digits + verb)
    else:
        text = f"%!{verb}({values.type_name(value)}={printed(value)})"
    if "-" in flags:
        return text.ljust(int(width or 0))
    if "0" in flags and number:
        return text.zfill(int(width or 0))
    return text.rjust(int(width or 0))


_HTML: Final = str.maketrans(
    {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
)
_JAVASCRIPT: Final = str.maketrans(
    {chr(code): f"\\u{code:04X}" for code in (*range(32), *b"<>&=")}
    | {"\\": "\\\\", "'": "\\'", '"': '\\"'}
)


def _current_date(*_: Value) -> str:
    return datetime.datetime.now().astimezone().date().isoformat()


def _yesterday(*_: Value) -> str:
    today = datetime.datetime.now().astimezone().date()
    return (today - datetime.timedelta(days=1)).isoformat()


def typescript_type(schema: Value) -> str:
    """The TypeScript type of a tool's property, as gpt-oss style templates show it."""
    document = schema.document if isinstance(schema, values.Struct) else schema
    if not isinstance(document, Mapping):
        return "any"
    if alternatives := document.get("anyOf"):
        return " | ".join(typescript_type(alternative) for alternative in alternatives)
    kinds = document.get("type") or []
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return " | ".join(_typescript_name(kind, document) for kind in kinds) or "any"


def _typescript_name(kind: str, schema: Mapping[str, Value]) -> str:
    match kind:
        case "array":
            return f"{typescript_type(schema.get('items'))}[]"
        case "integer":
            return "number"
        case "object":
            return "Record<string, any>"
        case _:
            return kind


def _not_less(left: Value, right: Value) -> bool:
    return not values.less(left, right)


FUNCTIONS: Final[Mapping[str, Callback]] = {
    "not": lambda value: not values.truth(value),
    "len": values.length,
    "index": _index,
    "slice": _slice,
    "eq": _eq,
    "ne": lambda left, right: not values.equal(left, right),
    "lt": values.less,
    "le": lambda left, right: values.less(left, right) or values.equal(left, right),
    "gt": lambda left, right: not values.less(left, right) and not values.equal(left, right),
    "ge": _not_less,
    "print": _print,
    "println": _println,
    "printf": _printf,
    "html": lambda *arguments: _print(*arguments).translate(_HTML),
    "js": lambda *arguments: _print(*arguments).translate(_JAVASCRIPT),
    "urlquery": lambda *arguments: urllib.parse.quote_plus(_print(*arguments)),
    "json": values.to_json,
    "currentDate": _current_date,
    "yesterdayDate": _yesterday,
    "toTypeScriptType": typescript_type,
}

# These two look at no more arguments than they need, so the interpreter itself performs them.
LAZY: Final = frozenset({"and", "or"})
NAMES: Final = frozenset(FUNCTIONS) | LAZY
