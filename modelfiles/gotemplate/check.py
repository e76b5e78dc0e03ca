"""What can be told about a template before there is anything to render."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from . import nodes
from .chat import TOP_LEVEL
from .errors import TemplateSyntaxError
from .parser import parse

_MISSPELT: Final = 0.75  # likeness of what somebody meant otherwise


def check(text: str) -> None:
    """Raises TemplateSyntaxError for bad syntax, and for a field that templates never get.

    One that the template asks for before it prints it does no harm: it is always empty.
    """
    body = parse(text).body
    harmless = {name for name in _asked_for(body) if not _like_known(name)}
    for name, line in _top_level(body, at_top=True):
        if name not in TOP_LEVEL and name not in harmless:
            known = ", ".join(f".{field}" for field in sorted(TOP_LEVEL))
            raise TemplateSyntaxError(f"unknown variable .{name}; there are {known}", line)


def _asked_for(body: nodes.Nodes) -> Iterator[str]:
    """Names in the conditions of `body`."""
    for node in body:
        if isinstance(node, nodes.If | nodes.With):
            yield from (name for name, _ in _in_pipeline(node.pipeline, at_top=True))
        if isinstance(node, nodes.If | nodes.With | nodes.Range):
            yield from _asked_for(node.body + node.otherwise)


def _like_known(name: str) -> bool:
    return bool(get_close_matches(name, TOP_LEVEL, n=1, cutoff=_MISSPELT))


def _top_level(body: nodes.Nodes, *, at_top: bool) -> Iterator[tuple[str, int]]:
    """Names that are looked up in the template's own data, with their lines."""
    for node in body:
        match node:
            case nodes.Action() | nodes.Call():
                yield from _in_pipeline(node.pipeline, at_top)
            case nodes.If():
                yield from _in_pipeline(node.pipeline, at_top)
                yield from _top_level(node.body + node.otherwise, at_top=at_top)
            case nodes.With() | nodes.Range():
                yield from _in_pipeline(node.pipeline, at_top)
                yield from _top_level(node.body, at_top=False)
                yield from _top_level(node.otherwise, at_top=at_top)


def _in_pipeline(pipeline: nodes.Pipeline | None, at_top: bool) -> Iterator[tuple[str, int]]:
    if pipeline is None:
        return
    for operand in (operand for command in pipeline.commands for operand in command.operands):
        match operand:
            case nodes.Field(names=(first, *_)) if at_top:
                yield first, pipeline.line
            case nodes.Variable(name="$", names=(first, *_)):
                yield first, pipeline.line
            case nodes.Chain():
                yield from _in_pipeline(operand.pipeline, at_top)
