"""From the text of a block of calls to the calls: one reader a notation, all of them pure."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from .. import json_text
from ..request import JsonObject


class Malformed(ValueError):
    """The text is no call in this notation; the user gets it as it stands."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool's name and its arguments."""

    name: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class Tools:
    """The parameters' schemas of the tools on offer, by name."""

    schemas: Mapping[str, JsonObject]

    @classmethod
    def of(cls, documents: tuple[JsonObject, ...]) -> Tools:
        functions = [document.get("function") or document for document in documents]
        return cls({str(f.get("name") or ""): f.get("parameters") or {} for f in functions})

    def parameter(self, tool: str, name: str) -> JsonObject:
        """The schema of one parameter; an empty one when it is not known."""
        properties = self.schemas.get(tool, {}).get("properties")
        schema = properties.get(name) if isinstance(properties, dict) else None
        return schema if isinstance(schema, dict) else {}


def read_json(text: str, tools: Tools) -> list[Call]:
    """Objects with name and arguments, alone, in a list, or behind each other."""
    return _calls_of(text, _json_values(text, _SEPARATORS))


_SEPARATORS = re.compile(r"[\s,;]*+")
_DECODER = json.JSONDecoder(strict=False)  # models break lines in strings


def _calls_of(text: str, values: Iterator[object]) -> list[Call]:
    calls = [call for value in values for call in _calls_in(value)]
    return calls or _no(text)


def _json_values(text: str, between: re.Pattern[str]) -> Iterator[object]:
    at = 0
    while (at := _end(between, text, at)) < len(text):
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield _literal(text[at:])
            return
        yield value


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where a pattern ends that may match nothing."""
    match = pattern.match(text, at)
    return match.end() if match else at


def _literal(text: str) -> object:
    """Python's notation, which models mix up with JSON."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise Malformed(text) from error


def _calls_in(value: object) -> Iterator[Call]:
    if isinstance(value, list):
        for item in value:
            yield from _calls_in(item)
        return
    if not isinstance(value, dict):
        raise Malformed(value)
    function = value.get("function")
    inner = function if isinstance(function, dict) else value
    name = inner.get("name") or inner.get("tool_name") or (function if inner is value else None)
    given = [inner[key] for key in ("arguments", "parameters", "args", "input") if key in inner]
    if not isinstance(name, str) or not name:
        raise Malformed(value)
    yield Call(json_text.sendable(name), arguments(given[0] if given else {}))


def arguments(value: object) -> JsonObject:
    """The arguments' object, also when it comes as JSON in a string. Raises Malformed."""
    try:
        value = json_text.parsed(value or "{}") if isinstance(value, str) else value
        value = {} if value is None else json_text.sendable(value)
    except json_text.NotJson as error:
        raise Malformed(value) from error
    if not isinstance(value, dict):
        raise Malformed(value)
    return value


def _no(text: str) -> list[Call]:
    raise Malformed(text)


def typed(text: str, schema: JsonObject) -> object:
    """A value written without quotes, by its schema's type; unknown types are tried as JSON."""
    if schema.get("type") == "string":
        return text
    try:
        return json_text.parsed(text)
    except json_text.NotJson:
        return {"True": True, "False": False, "None": None}.get(text.strip(), text)


def read_python(text: str, tools: Tools) -> list[Call]:
    """Calls in Python's notation, such as `[weather(city="Oslo"), now()]`."""
    try:
        tree = _JsonNames().visit(ast.parse(text.strip(), mode="eval").body)
        nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
        return [_python_call(node, tools) for node in nodes] or _no(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise Malformed(text) from error


class _JsonNames(ast.NodeTransformer):
    """Models write JSON's names for constants in Python's calls."""

    _VALUES: ClassVar = {"true": True, "false": False, "null": None}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(self._VALUES[node.id]) if node.id in self._VALUES else node


def _python_call(node: ast.expr, tools: Tools) -> Call:
    if not isinstance(node, ast.Call):
        raise Malformed(type(node).__name__)
    name = ast.unparse(node.func)
    positional = list(tools.schemas.get(name, {}).get("properties") or {})
    if len(node.args) > len(positional):
        raise Malformed(name)
    pairs = [
        *zip(positional, node.args, strict=False),
        *((keyword.arg, keyword.value) for keyword in node.keywords),
    ]
    given = {str(key): ast.literal_eval(value) for key, value in pairs if key}
    return Call(name, arguments(given))


def read_json_or_python(text: str, tools: Tools) -> list[Call]:
    """JSON, else Python: Llama's `<|python_tag|>` stands before either."""
    try:
        return read_json(text, tools)
    except Malformed:
        return read_python(text, tools)


_MISTRAL = re.compile(r"([\w.\-]+)\s*(?:\[CALL_ID\]\s*[\w\-]+\s*)?(?:\[ARGS\])?\s*(?=\{)")
_MARKS = re.compile(r"(?:[\s,;]|\[TOOL_CALLS\])*+")


def read_mistral(text: str, _tools: Tools) -> list[Call]:
    """JSON, or names each followed by `[ARGS]` and an object; marks may stand between."""
    calls: list[Call] = []
    at = _end(_MARKS, text, 0)
    if text.startswith(("[", "{"), at):
        return _calls_of(text, _json_values(text, _MARKS))
    while match := _MISTRAL.match(text, at):
        try:
            value, at = _DECODER.raw_decode(text, match.end())
        except (ValueError, RecursionError) as error:
            raise Malformed(text) from error
        calls.append(Call(match[1], arguments(value)))
        at = _end(_MARKS, text, at)
    if not calls or at < len(text):
        raise Malformed(text)
    return calls


def read_piped(text: str, tools: Tools) -> list[Call]:
    """A JSON list, the bracket of which may be part of the mark before it."""
    body = text.strip()
    return read_json(f"[{body}" if body.startswith("{") and body.endswith("]") else body, tools)


_KIMI = re.compile(
    r"<\|tool_call_begin\|>\s*(?:functions\.)?([\w.\-]+?)(?::\d+)?\s*"
    r"<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>",
    re.DOTALL,
)


def read_kimi(text: str, _tools: Tools) -> list[Call]:
    """Kimi's blocks: `functions.name:0`, and JSON."""
    if _KIMI.sub("", text).strip():
        raise Malformed(text)
    found = [Call(name, arguments(body.strip())) for name, body in _KIMI.findall(text)]
    return found or _no(text)


_DEEPSEEK = re.compile(
    r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)<｜tool▁call▁end｜>", re.DOTALL
)
_FENCED = re.compile(r"\s*([^\n{]+?)\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)


def read_deepseek(text: str, tools: Tools) -> list[Call]:
    """DeepSeek's blocks: a name and JSON, in a fence (V3, R1) or without (V3.1)."""
    calls = []
    if _DEEPSEEK.sub("", text).strip():  # cut, or something else besides
        raise Malformed(text)
    for before, after in _DEEPSEEK.findall(text):
        fenced = _FENCED.fullmatch(after)
        name, body = fenced.groups() if fenced else (before, after)
        calls.append(Call(name.strip(), arguments(body.strip())))
    return calls or _no(text)
