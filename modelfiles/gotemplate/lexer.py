"""Cuts a template into text and the tokens of its actions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from .errors import TemplateSyntaxError


class Kind(Enum):
    """What a token is."""

    TEXT = auto()
    OPEN = auto()  # {{
    CLOSE = auto()  # }}
    FIELD = auto()  # .Name, or the dot alone
    VARIABLE = auto()  # $name
    WORD = auto()  # keyword or function
    STRING = auto()
    NUMBER = auto()
    CHARACTER = auto()
    SIGN = auto()  # ( ) | , := =
    SPACE = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the template, with the line on which it starts."""

    kind: Kind
    text: str
    line: int


_TOKEN = re.compile(
    r"""(?P<SPACE>\s+)
    |(?P<STRING>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    |(?P<CHARACTER>'(?:[^'\\\n]|\\.[^'\n]*)')
    |(?P<NUMBER>[+-]?(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+))
    |(?P<FIELD>\.[^\W\d]\w*|\.)
    |(?P<VARIABLE>\$\w*)
    |(?P<WORD>[^\W\d]\w*)
    |(?P<SIGN>:=|[()|,=])""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"\s*/\*(?:.*?(\*/))?", re.DOTALL)
_CLOSE = re.compile(r"(?:\s+-)?\}\}")
_TRIM_LEFT = re.compile(r"-\s")
_SPACES = " \t\r\n"


def tokens(text: str) -> Iterator[Token]:
    """The tokens of `text`, white space trimmed where actions say so."""
    at, line, trim = 0, 1, False
    while True:
        start = text.find("{{", at)
        piece = text[at:] if start < 0 else text[at:start]
        lines = piece.count("\n")
        trims_left = _TRIM_LEFT.match(text, start + 2) is not None if start >= 0 else False
        if trim:
            piece = piece.lstrip(_SPACES)
        if trims_left:
            piece = piece.rstrip(_SPACES)
        if piece:
            yield Token(Kind.TEXT, piece, line)
        if start < 0:
            return
        line += lines
        end, found = _action(text, start + (3 if trims_left else 2), line)
        yield from found
        trim = text[end - 3] == "-" and text[end - 4] in _SPACES
        line += text.count("\n", start, end)
        at = end


def _action(text: str, at: int, line: int) -> tuple[int, list[Token]]:
    """The position behind the action whose inside starts at `at`, and its tokens."""
    comment = _COMMENT.match(text, at)
    if comment:
        return _behind_comment(text, comment, line), []
    found = [Token(Kind.OPEN, "{{", line)]
    while True:
        close = _CLOSE.match(text, at)
        if close:
            found.append(Token(Kind.CLOSE, "}}", line))
            return close.end(), found
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise TemplateSyntaxError(*_unreadable(text, at, line))
        found.append(Token(Kind[match.lastgroup], match[0], line))
        line += match[0].count("\n")
        at = match.end()


def _behind_comment(text: str, comment: re.Match[str], line: int) -> int:
    if comment[1] is None:
        raise TemplateSyntaxError("unclosed comment", line)
    close = _CLOSE.match(text, comment.end())
    if close is None:
        raise TemplateSyntaxError("comment ends before closing delimiter", line)
    return close.end()


def _unreadable(text: str, at: int, line: int) -> tuple[str, int]:
    if at >= len(text):
        return "unclosed action", line
    match text[at]:
        case '"':
            return "unterminated quoted string", line
        case "`":
            return "unterminated raw quoted string", line
        case "'":
            return "unterminated character constant", line
        case "{" | "}":
            return f"unexpected {text[at]!r} in operand".replace("'", '"'), line
        case other:
            return f"unrecognized character in action: U+{ord(other):04X} {other!r}", line
