"""The Modelfile grammar: text to instructions and back.

A line is `KEYWORD argument`. The keyword is of any case; `#` starts a comment only where a keyword
could stand. An argument runs to the end of its line, unless it starts with `"` or with three of
them: then it runs to the first line that ends with the same mark. There are no escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from qm.store.errors import InvalidRequest

KEYWORDS = (
    "FROM",
    "PARAMETER",
    "TEMPLATE",
    "SYSTEM",
    "ADAPTER",
    "LICENSE",
    "MESSAGE",
    "DRAFT",
    "RENDERER",
    "PARSER",
    "REQUIRES",
    "QUANTIZE",
    "IMATRIX",
    "CALIBRATION",
    "TENSOR_TYPE",
    "DELTA",
    "EVALUATE",
)
ROLES = ("system", "user", "assistant")

_NAMED = ("PARAMETER", "MESSAGE")  # their argument starts with a word of its own
_MAY_BE_EMPTY = ("TEMPLATE", "SYSTEM", "LICENSE", "MESSAGE", "PARAMETER")
_TRIPLE = '"""'
# What Go's strings.TrimSpace strips: Python's own set also has the separators U+001C to U+001F.
_SPACE = "\t\n\v\f\r \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_LINE_ENDS = re.compile(r"(\r\n|\r|\n)")
_KEYWORD = re.compile(r"([A-Za-z_]+)(?:([ \t])(.*))?", re.DOTALL)
_NAME = re.compile(r"([A-Za-z0-9_]+)(?:[ \t]+(.*))?", re.DOTALL)

Lines: TypeAlias = list[tuple[str, str]]  # each with the characters that end it


class ModelfileError(InvalidRequest):
    """A Modelfile can't be read; `line` (from 1) is where, or 0 for the file as a whole."""

    code = "invalid_modelfile"

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line = line


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `name` is a PARAMETER's name or a MESSAGE's role, else empty."""

    keyword: str
    argument: str
    line: int = field(default=0, compare=False)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Modelfile:
    """What a Modelfile says, in its order, nothing merged."""

    instructions: tuple[Instruction, ...]

    def of(self, keyword: str) -> tuple[Instruction, ...]:
        """The instructions with this keyword."""
        return tuple(each for each in self.instructions if each.keyword == keyword)

    def with_from(self, source: str) -> Modelfile:
        """The same with this one FROM in place of its own."""
        rest = tuple(each for each in self.instructions if each.keyword != "FROM")
        return Modelfile((Instruction("FROM", source), *rest))


def parse(data: str | bytes) -> Modelfile:
    """Raises ModelfileError naming the line."""
    text = data if isinstance(data, str) else _decode(data)
    return Modelfile(tuple(_instructions(text.removeprefix("\ufeff"))))


def to_text(modelfile: Modelfile) -> str:
    """Text that parses back equal. Raises ModelfileError for what the grammar can't hold."""
    return "".join(f"{_line_of(each)}\n" for each in modelfile.instructions)


def quote(value: str) -> str:
    """The value as an argument: bare where that reads back the same, else quoted.

    Raises ModelfileError for the rare text that no quoting can hold: some line of it ends with
    three quotation marks.
    """
    for written in (value, f'"{value}"', f"{_TRIPLE}{value}{_TRIPLE}"):
        if _reads_back(written, value):
            return written
    raise ModelfileError(f"no quoting can hold this text, as a line of it ends with {_TRIPLE}")


def _decode(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ModelfileError(f"this is not text: {error.reason}", line) from error


def _lines(text: str) -> Lines:
    pieces = _LINE_ENDS.split(text)  # line, its end, line, its end, ..., last line
    return list(zip(pieces[::2], [*pieces[1::2], ""], strict=True))


def _instructions(text: str) -> Iterator[Instruction]:
    lines = _lines(text)
    at = 0
    while at < len(lines):
        line = lines[at][0].strip(_SPACE)
        if not line or line.startswith("#"):
            at += 1
            continue
        keyword, name, rest = _head(lines[at][0].lstrip(_SPACE), at + 1)
        argument, used = _argument(rest, lines, at)
        yield Instruction(keyword, argument, at + 1, name)
        at += used


def _head(line: str, number: int) -> tuple[str, str, str]:
    match = _KEYWORD.fullmatch(line)
    if match is None or match[1].upper() not in KEYWORDS:
        word = re.split(r"[ \t]", line, maxsplit=1)[0][:40]
        known = ", ".join(KEYWORDS)
        raise ModelfileError(f"unknown instruction {word!r}; it must be one of {known}", number)
    keyword, rest = match[1].upper(), match[3] or ""
    name = ""
    if keyword in _NAMED:
        name, rest = _name(keyword, rest, number)
    empty = not rest.strip(_SPACE)
    if empty and keyword != "EVALUATE" and (match[2] is None or keyword not in _MAY_BE_EMPTY):
        raise ModelfileError(f"{keyword} needs a value", number)
    return keyword, name, rest


def _name(keyword: str, rest: str, number: int) -> tuple[str, str]:
    match = _NAME.fullmatch(rest.lstrip(_SPACE))
    if match is None or match[2] is None:
        what = "a name and a value" if keyword == "PARAMETER" else "a role and a text"
        raise ModelfileError(f"{keyword} needs {what}", number)
    if keyword == "MESSAGE" and match[1] not in ROLES:
        raise ModelfileError(f"the role of a MESSAGE must be one of {', '.join(ROLES)}", number)
    return match[1], match[2]


def _argument(rest: str, lines: Lines, at: int) -> tuple[str, int]:
    """The argument that starts with `rest` on line `at`, and how many lines it takes."""
    text = rest.strip(_SPACE)
    mark = next((mark for mark in (_TRIPLE, '"') if text.startswith(mark)), "")
    size = len(mark)
    if not mark or (len(text) >= 2 * size and text.endswith(mark)):
        return text[size : len(text) - size], 1
    parts = [rest.lstrip(_SPACE)[size:]]
    for number in range(at + 1, len(lines)):
        parts.append(lines[number - 1][1])
        last = lines[number][0].rstrip(_SPACE)
        if last.endswith(mark):
            parts.append(last[:-size])
            return "".join(parts), number - at + 1
        parts.append(lines[number][0])
    raise ModelfileError(f"a quotation opens here and no line ends with {mark}", at + 1)


def _line_of(instruction: Instruction) -> str:
    words = [instruction.keyword, instruction.name]
    if instruction.keyword != "EVALUATE":
        words.append(quote(instruction.argument) or '""')
    return " ".join(word for word in words if word)


def _reads_back(written: str, value: str) -> bool:
    lines = _lines(written)
    try:
        return _argument(lines[0][0], lines, 0) == (value, len(lines))
    except ModelfileError:
        return False
