"""The tree that a template is parsed to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: string, number, boolean or nil (None)."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Field:
    """`.A.B`, a chain of fields of the dot; no names: the dot itself."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """`$name.A.B`; the name `$` is the data that execution began with."""

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).A.B`."""

    pipeline: Pipeline
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """A function's name, where an operand may stand."""

    name: str


Operand: TypeAlias = Literal | Field | Variable | Chain | Function


@dataclass(frozen=True, slots=True)
class Command:
    """An operand and the arguments that it is called with."""

    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands whose results are the next one's last argument; set in `declared`, if any.

    `assigns` tells `$x = …` from `$x := …`.
    """

    commands: tuple[Command, ...]
    declared: tuple[str, ...] = ()
    assigns: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """What is printed as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline whose value is printed, unless it declares variables."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class If:
    """`{{if}}`; an `{{else if}}` is an If that stands alone in `otherwise`."""

    pipeline: Pipeline
    body: Nodes
    otherwise: Nodes


@dataclass(frozen=True, slots=True)
class With:
    """`{{with}}`: the dot is the pipeline's value in the body."""

    pipeline: Pipeline
    body: Nodes
    otherwise: Nodes


@dataclass(frozen=True, slots=True)
class Range:
    """`{{range}}`: the body once an element, `otherwise` when there is none."""

    pipeline: Pipeline
    body: Nodes
    otherwise: Nodes


@dataclass(frozen=True, slots=True)
class Break:
    """Leaves the innermost range."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Goes on with the next element of the innermost range."""


@dataclass(frozen=True, slots=True)
class Call:
    """`{{template "name" pipeline}}`, and where a `{{block}}` stands."""

    name: str
    pipeline: Pipeline | None
    line: int


Node: TypeAlias = Text | Action | If | With | Range | Break | Continue | Call
Nodes: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole template with the templates that it defines."""

    body: Nodes
    defined: dict[str, Nodes]

    def names(self) -> frozenset[str]:
        """Every field name and variable that the template mentions anywhere."""
        return frozenset(
            name for body in (self.body, *self.defined.values()) for name in mentioned(body)
        )


def mentioned(node: Any) -> Iterator[str]:  # Any: every kind of node, and tuples of them
    """The field names below `node`."""
    if isinstance(node, tuple):
        for part in node:
            yield from mentioned(part)
    elif isinstance(node, Field | Variable | Chain):
        yield from node.names
    if isinstance(node, Chain):
        yield from mentioned(node.pipeline)
    elif hasattr(node, "__dataclass_fields__") and not isinstance(node, Field | Variable):
        for field in fields(node):
            yield from mentioned(getattr(node, field.name))
