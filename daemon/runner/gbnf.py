"""GBNF, llama.cpp's grammar notation, translated to the Lark dialect that llguidance reads. Pure.

Every character becomes a terminal of its own and everything else a rule, so that the grammar means
the same: longer terminals would be matched greedily, which GBNF is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 65_536
MAX_DEPTH: Final = 64
MAX_REPETITIONS: Final = 1000
_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t]+|\#[^\r\n]*)|(?P<newline>\r?\n|\r)|(?P<define>::=)|(?P<name>[\w-]+)
    |"(?P<text>(?:\\.|[^"\\])*)"|\[(?P<set>(?:\\.|[^\]\\])*)\]
    |\{(?P<bounds>[^}]*)\}|(?P<sign>[|()*+?.])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_CHARACTER: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([nrt\\\"\[\]-]))|([^\\])",
    re.DOTALL,
)
_BOUNDS: Final = re.compile(r"\s*(\d+)\s*(?:(,)\s*(\d*)\s*)?", re.ASCII)
_NAMED: Final = {"n": "\n", "r": "\r", "t": "\t"}
_ANY: Final = r"/[\x{0}-\x{10ffff}]/"


class GrammarError(Exception):
    """The grammar is broken or beyond a limit; the message says where and why."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    value: str
    line: int


def to_lark(text: str) -> str:
    """The same language in Lark. Raises GrammarError."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise GrammarError(f"it has more than {MAX_BYTES} bytes")
    rules = _Parser(_tokens(text)).rules()
    if "root" not in rules:
        raise GrammarError("it has no rule named 'root'")
    numbers = {name: number for number, name in enumerate(rules)}

    def reference(match: re.Match[str]) -> str:
        if match[1] not in numbers:
            raise GrammarError(f"rule '{match[1][:80]}' does not exist")
        return f"rule_{numbers[match[1]]}"

    lines = [
        f"rule_{numbers[name]}: {_REFERENCE.sub(reference, body)}" for name, body in rules.items()
    ]
    return "\n".join([f"start: rule_{numbers['root']}", *lines, ""])


_REFERENCE: Final = re.compile(r"<([\w-]+)>", re.ASCII)  # how a body holds what it refers to


def _tokens(text: str) -> list[_Token]:
    tokens, at, line = [], 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise GrammarError(f"line {line}: {text[at : at + 20]!r} makes no sense here")
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup, match[match.lastgroup], line))
        line += match[0].count("\n")
        at = match.end()
    return [*tokens, _Token("end", "", line)]


class _Parser:
    """Recursive descent; bodies come out as Lark with references in angle brackets."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def rules(self) -> dict[str, str]:
        rules: dict[str, str] = {}
        self._skip_newlines()
        while self._next.kind != "end":
            name = self._take("name").value
            self._take("define")
            self._skip_newlines()
            if name in rules:
                raise GrammarError(f"line {self._next.line}: rule '{name[:80]}' is there twice")
            rules[name] = self._alternatives(0)
            if self._next.kind != "end":
                self._take("newline")
            self._skip_newlines()
        return rules

    def _alternatives(self, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise GrammarError(f"line {self._next.line}: more than {MAX_DEPTH} nested groups")
        found = [self._sequence(depth)]
        while self._is_sign("|"):
            self._at += 1
            self._skip_newlines()
            found.append(self._sequence(depth))
        return " | ".join(found)

    def _sequence(self, depth: int) -> str:
        parts: list[str] = []
        while True:
            if depth:
                self._skip_newlines()
            token = self._next
            if token.kind in ("text", "set", "name") or self._is_sign("(") or self._is_sign("."):
                parts.append(self._item(depth))
            elif token.kind in ("newline", "end") or token.value in ("|", ")"):
                return " ".join(parts) or '""'
            else:
                raise GrammarError(f"line {token.line}: '{token.value[:20]}' makes no sense here")

    def _item(self, depth: int) -> str:
        token = self._next
        self._at += 1
        match token.kind:
            case "text":
                item = _literal(token)
            case "set":
                item = _set(token)
            case "name":
                item = f"<{token.value}>"
            case _ if token.value == ".":
                item = _ANY
            case _:
                item = f"({self._alternatives(depth + 1)})"
                if not self._is_sign(")"):
                    raise GrammarError(f"line {token.line}: the group is never closed")
                self._at += 1
        return self._repeated(item)

    def _repeated(self, item: str) -> str:
        while True:
            token = self._next
            if token.kind == "bounds":
                item = f"({item}){_bounds(token)}"
            elif token.kind == "sign" and token.value in ("*", "+", "?"):
                item = f"({item}){token.value}"
            else:
                return item
            self._at += 1

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _is_sign(self, sign: str) -> bool:
        return self._next.kind == "sign" and self._next.value == sign

    def _take(self, kind: str) -> _Token:
        token = self._next
        if token.kind != kind:
            found = token.value[:20] or token.kind
            raise GrammarError(f"line {token.line}: expected {_SPOKEN[kind]}, not {found!r}")
        self._at += 1
        return token

    def _skip_newlines(self) -> None:
        while self._next.kind == "newline":
            self._at += 1


_SPOKEN: Final = {"name": "a rule's name", "define": "'::='", "newline": "the end of the line"}


def _literal(token: _Token) -> str:
    points = _points(token)
    return "(" + " ".join(f"/[{_spelled(point)}]/" for point in points) + ")" if points else '""'


def _set(token: _Token) -> str:
    negated = token.value.startswith("^")
    points = _points(_Token("set", token.value.removeprefix("^"), token.line), ranges=True)
    parts = []
    while points:
        point = points.pop(0)
        if len(points) > 1 and points[0] == _RANGE:
            points.pop(0)
            last = points.pop(0)
            if last < point:
                raise GrammarError(f"line {token.line}: [{token.value[:40]}] has an empty range")
            parts.append(f"{_spelled(point)}-{_spelled(last)}")
        else:
            parts.append(_spelled(ord("-") if point == _RANGE else point))
    if not parts:
        raise GrammarError(f"line {token.line}: [{token.value[:40]}] matches nothing")
    return f"/[{'^' if negated else ''}{''.join(parts)}]/"


_RANGE: Final = -1  # the sign between two ends of a range


def _points(token: _Token, *, ranges: bool = False) -> list[int]:
    """The code points that a text or a set spells."""
    points, at = [], 0
    while at < len(token.value):
        match = _CHARACTER.match(token.value, at)
        if match is None:
            shown = token.value[at : at + 10]
            raise GrammarError(f"line {token.line}: {shown!r} is no escape that exists")
        digits = match[1] or match[2] or match[3]
        plain = match[5]
        if digits:
            point = int(digits, 16)
        elif ranges and plain == "-":
            point = _RANGE
        else:
            point = ord(plain or _NAMED.get(match[4], match[4]))
        if 0xD800 <= point < 0xE000 or point > 0x10FFFF:
            raise GrammarError(f"line {token.line}: {match[0]} is no character")
        points.append(point)
        at = match.end()
    return points


def _spelled(point: int) -> str:
    return f"\\x{{{point:x}}}"


def _bounds(token: _Token) -> str:
    match = _BOUNDS.fullmatch(token.value)
    if match is None:
        raise GrammarError(f"line {token.line}: {{{token.value[:20]}}} is no repetition")
    low, high = int(match[1][:9]), int(match[3][:9]) if match[3] else None
    if max(low, high or 0) > MAX_REPETITIONS:
        raise GrammarError(f"line {token.line}: more than {MAX_REPETITIONS} repetitions")
    if high is not None and high < low:
        raise GrammarError(
            f"line {token.line}: {{{token.value[:20]}}} asks for less than its least"
        )
    if high is None:
        return f"{{{low},}}" if match[2] else f"{{{low}}}"
    return f"{{{low},{high}}}"
