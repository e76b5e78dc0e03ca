"""Walks a template's tree and writes what it prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from . import nodes, values
from .errors import ExecutionError
from .functions import FUNCTIONS, LAZY
from .values import Value

_MAX_CALLS = 100  # templates that call each other deeper than this call for ever


class _Break(Exception):
    """`{{break}}` on its way to its range."""


class _Continue(Exception):
    """`{{continue}}` on its way to its range."""


def execute(tree: nodes.Tree, data: Value, write: Callable[[str], None]) -> None:
    """Writes what `tree` prints for `data`. Raises ExecutionError, and whatever `write` raises."""
    run = _Run(tree, write)
    run.body(tree.body, data, _Scope({"$": data}))


@dataclass(slots=True)
class _Scope:
    """Variables of a block; names that it lacks are its parent's."""

    names: dict[str, Value]
    parent: _Scope | None = None

    def holder(self, name: str) -> dict[str, Value]:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names
            scope = scope.parent
        raise ExecutionError(f"undefined variable {name}")


@dataclass(slots=True)
class _Run:
    tree: nodes.Tree
    write: Callable[[str], None]
    calls: int = field(default=0)

    def body(self, body: nodes.Nodes, dot: Value, scope: _Scope) -> None:
        for node in body:
            self._node(node, dot, scope)

    def _node(self, node: nodes.Node, dot: Value, scope: _Scope) -> None:
        match node:
            case nodes.Text():
                self.write(node.text)
            case nodes.Action():
                value = self._pipeline(node.pipeline, dot, scope)
                if not node.pipeline.declared:
                    self.write(values.printed(value))
            case nodes.If() | nodes.With():
                self._branch(node, dot, _Scope({}, scope))
            case nodes.Range():
                self._range(node, dot, _Scope({}, scope))
            case nodes.Call():
                self._call_template(node, dot, scope)
            case nodes.Break():
                raise _Break
            case nodes.Continue():
                raise _Continue

    def _branch(self, node: nodes.If | nodes.With, dot: Value, scope: _Scope) -> None:
        value = self._pipeline(node.pipeline, dot, scope)
        if not values.truth(value):
            self.body(node.otherwise, dot, scope)
        else:
            self.body(node.body, value if isinstance(node, nodes.With) else dot, scope)

    def _range(self, node: nodes.Range, dot: Value, scope: _Scope) -> None:
        # The variables of a range hold its elements, not its pipeline's value.
        bare = nodes.Pipeline(node.pipeline.commands, line=node.pipeline.line)
        any_element = False
        for key, element in _elements(self._pipeline(bare, dot, scope)):
            any_element = True
            inner = _Scope({}, scope)
            pair = (element,) if len(node.pipeline.declared) < 2 else (key, element)
            for name, value in zip(node.pipeline.declared, pair, strict=False):
                holder = scope.holder(name) if node.pipeline.assigns else inner.names
                holder[name] = value
            try:
                self.body(node.body, element, inner)
            except _Continue:
                continue
            except _Break:
                break
        if not any_element:
            self.body(node.otherwise, dot, scope)

    def _call_template(self, node: nodes.Call, dot: Value, scope: _Scope) -> None:
        if node.name not in self.tree.defined:
            raise ExecutionError(f'line {node.line}: template "{node.name}" not defined')
        value = None if node.pipeline is None else self._pipeline(node.pipeline, dot, scope)
        self.calls += 1
        if self.calls > _MAX_CALLS:
            raise ExecutionError("exceeded maximum template depth")
        self.body(self.tree.defined[node.name], value, _Scope({"$": value}))
        self.calls -= 1

    # Pipelines ----------------------------------------------------------------------------------

    def _pipeline(self, pipeline: nodes.Pipeline, dot: Value, scope: _Scope) -> Value:
        value: Value = None
        for position, command in enumerate(pipeline.commands):
            last = () if position == 0 else (value,)
            try:
                value = self._command(command, dot, scope, last)
            except ExecutionError as error:
                raise _at_line(error, pipeline.line) from error
        for name in pipeline.declared:
            holder = scope.holder(name) if pipeline.assigns else scope.names
            holder[name] = value
        return value

    def _command(
        self, command: nodes.Command, dot: Value, scope: _Scope, last: tuple[Value, ...]
    ) -> Value:
        first, *rest = command.operands
        if not isinstance(first, nodes.Function):
            if rest or last:
                raise ExecutionError("can't give argument to non-function")
            return self._operand(first, dot, scope)
        lazy = (self._operand(operand, dot, scope) for operand in rest)
        if first.name in LAZY:
            return _and_or(first.name, _chain(lazy, last))
        return _called(first.name, [*lazy, *last])

    def _operand(self, operand: nodes.Operand, dot: Value, scope: _Scope) -> Value:
        match operand:
            case nodes.Literal():
                return operand.value
            case nodes.Field():
                return _follow(dot, operand.names)
            case nodes.Variable():
                return _follow(scope.holder(operand.name)[operand.name], operand.names)
            case nodes.Chain():
                return _follow(self._pipeline(operand.pipeline, dot, scope), operand.names)
            case nodes.Function():
                return _called(operand.name, [])


def _called(name: str, arguments: list[Value]) -> Value:
    if name in LAZY:
        return _and_or(name, arguments)
    try:
        return FUNCTIONS[name](*arguments)
    except TypeError as error:  # only a wrong number of arguments: the functions check their types
        raise ExecutionError(f"wrong number of args for {name}: got {len(arguments)}") from error


def _and_or(name: str, arguments: Iterable[Value]) -> Value:
    value: Value = None
    found = False
    for value in arguments:
        found = True
        if values.truth(value) is (name == "or"):
            break
    if not found:
        raise ExecutionError(f"wrong number of args for {name}: want at least 1 got 0")
    return value


def _chain(first: Iterable[Value], second: Iterable[Value]) -> Iterator[Value]:
    yield from first
    yield from second


def _follow(value: Value, names: tuple[str, ...]) -> Value:
    for name in names:
        value = values.field(value, name)
    return value


def _elements(value: Value) -> Iterable[tuple[Value, Value]]:
    """Pairs of key and element; maps by sorted key, documents as they were written."""
    match value:
        case None:
            return ()
        case values.Document():
            return value.items()
        case Mapping():
            return ((key, value[key]) for key in sorted(value))
        case list() | tuple():
            return enumerate(value)
        case int() if not isinstance(value, bool):
            return ((number, number) for number in range(value))
        case _:
            raise ExecutionError(f"range can't iterate over {values.printed(value)}")


def _at_line(error: ExecutionError, line: int) -> ExecutionError:
    text = str(error)
    return error if text.startswith("line ") else ExecutionError(f"line {line}: {text}")
