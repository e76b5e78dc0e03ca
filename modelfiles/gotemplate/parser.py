"""Text to tree: a recursive descent over the tokens of a template."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import lru_cache

from . import nodes
from .errors import TemplateSyntaxError
from .functions import NAMES as FUNCTIONS
from .lexer import Kind, Token, tokens

_END = Token(Kind.CLOSE, "EOF", 0)
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "nil": None}
_MAX_DEPTH = 200  # deeper blocks or parentheses are an attack on the stack


@lru_cache(16)
def parse(text: str) -> nodes.Tree:
    """The tree of `text`. Raises TemplateSyntaxError with the line and Go's words."""
    return _Parser(text).tree()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(tokens(text))
        self._at = 0
        self._depth = 0
        self._ranges = 0
        self._last_line = text.count("\n") + 1
        self._scopes: list[set[str]] = [{"$"}]
        self._defined: dict[str, nodes.Nodes] = {}

    def tree(self) -> nodes.Tree:
        body, _ = self._body(top=True)
        return nodes.Tree(body, self._defined)

    # Tokens -------------------------------------------------------------------------------------

    def _peek(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _space(self) -> bool:
        """Passes white space over; whether there was any."""
        found = False
        while self._peek().kind is Kind.SPACE:
            self._at += 1
            found = True
        return found

    def _fail(self, reason: str, token: Token | None = None) -> TemplateSyntaxError:
        token = token or self._peek()
        return TemplateSyntaxError(reason, token.line or self._last_line)

    def _close(self, context: str) -> None:
        self._space()
        token = self._next()
        if token.kind is not Kind.CLOSE:
            raise self._fail(f"unexpected <{token.text}> in {context}", token)

    # Blocks -------------------------------------------------------------------------------------

    def _body(self, *, top: bool = False) -> tuple[nodes.Nodes, str]:
        """Nodes up to `{{end}}` or `{{else`, and which of the two it was."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._fail("nested too deeply")
        body: list[nodes.Node] = []
        while self._at < len(self._tokens):
            token = self._next()
            if token.kind is Kind.TEXT:
                body.append(nodes.Text(token.text))
                continue
            self._space()
            word = self._peek()
            if word.kind is Kind.WORD and word.text in ("end", "else"):
                if top:
                    raise self._fail(f"unexpected {{{{{word.text}}}}}", word)
                self._at += 1
                self._depth -= 1
                return tuple(body), word.text
            node = self._action()
            if node is not None:
                body.append(node)
        if not top:
            raise TemplateSyntaxError("unexpected EOF", self._last_line)
        return tuple(body), ""

    def _action(self) -> nodes.Node | None:
        word = self._peek()
        keywords: dict[str, Callable[[Token], nodes.Node | None]] = {
            "if": self._if,
            "with": self._with,
            "range": self._range,
            "define": self._define,
            "block": self._block,
            "template": self._template,
            "break": self._leave,
            "continue": self._leave,
        }
        if word.kind is Kind.WORD and word.text in keywords:
            self._at += 1
            return keywords[word.text](word)
        pipeline = self._pipeline("command")
        self._close("command")
        return nodes.Action(pipeline)

    def _if(self, word: Token) -> nodes.If:
        return nodes.If(*self._branches("if"))

    def _with(self, word: Token) -> nodes.With:
        return nodes.With(*self._branches("with"))

    def _range(self, word: Token) -> nodes.Range:
        return nodes.Range(*self._branches("range"))

    def _branches(self, keyword: str) -> tuple[nodes.Pipeline, nodes.Nodes, nodes.Nodes]:
        self._scopes.append(set())
        pipeline = self._pipeline(keyword)
        self._close(keyword)
        self._ranges += keyword == "range"
        body, ended = self._body()
        self._ranges -= keyword == "range"
        otherwise = self._else(keyword) if ended == "else" else self._end()
        self._scopes.pop()
        return pipeline, body, otherwise

    def _else(self, keyword: str) -> nodes.Nodes:
        self._space()
        word = self._peek()
        if word.kind is Kind.WORD and word.text == keyword and keyword in ("if", "with"):
            self._at += 1
            return (self._if(word) if keyword == "if" else self._with(word),)
        self._close("else")
        body, ended = self._body()
        if ended == "else":
            raise self._fail("expected end; found {{else}}")
        return body + self._end()

    def _end(self) -> nodes.Nodes:
        self._close("end")
        return ()

    def _define(self, word: Token) -> None:
        name = self._name("define clause")
        self._close("define clause")
        self._subtree(name)

    def _block(self, word: Token) -> nodes.Call:
        name = self._name("block clause")
        pipeline = self._pipeline("block clause")
        self._close("block clause")
        self._subtree(name)
        return nodes.Call(name, pipeline, word.line)

    def _subtree(self, name: str) -> None:
        scopes, self._scopes = self._scopes, [{"$"}]
        body, ended = self._body()
        if ended == "else":
            raise self._fail("unexpected {{else}} in define clause")
        self._end()
        self._scopes = scopes
        self._defined[name] = body

    def _template(self, word: Token) -> nodes.Call:
        name = self._name("template clause")
        self._space()
        pipeline = None
        if self._peek().kind is not Kind.CLOSE:
            pipeline = self._pipeline("template clause")
        self._close("template clause")
        return nodes.Call(name, pipeline, word.line)

    def _leave(self, word: Token) -> nodes.Node:
        if not self._ranges:
            raise self._fail(f"{{{{{word.text}}}}} outside {{{{range}}}}", word)
        self._close(word.text)
        return nodes.Break() if word.text == "break" else nodes.Continue()

    def _name(self, context: str) -> str:
        self._space()
        token = self._next()
        if token.kind is not Kind.STRING:
            raise self._fail(f"unexpected <{token.text}> in {context}", token)
        return _unquoted(token)

    # Pipelines ----------------------------------------------------------------------------------

    def _pipeline(self, context: str) -> nodes.Pipeline:
        self._space()
        line = self._peek().line
        declared, assigns = self._declaration(context)
        commands = [self._command(context)]
        while self._peek().text == "|":
            self._at += 1
            commands.append(self._command(context))
        return nodes.Pipeline(tuple(commands), declared, assigns, line)

    def _declaration(self, context: str) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$x =` or, in a range, `$i, $x :=`; none if none stands here."""
        start = self._at
        names: list[str] = []
        while self._peek().kind is Kind.VARIABLE:
            names.append(self._next().text)
            self._space()
            sign = self._peek().text
            if sign == "," and context == "range" and len(names) == 1:
                self._at += 1
                self._space()
                continue
            if sign in (":=", "="):
                self._at += 1
                self._space()
                return self._declare(names, sign)
            break
        self._at = start
        return (), False

    def _declare(self, names: list[str], sign: str) -> tuple[tuple[str, ...], bool]:
        if sign == "=":
            for name in names:
                self._known(name)
        else:
            self._scopes[-1].update(names)
        return tuple(names), sign == "="

    def _known(self, name: str) -> None:
        if not any(name in scope for scope in self._scopes):
            raise self._fail(f"undefined variable {name!r}".replace("'", '"'))

    def _command(self, context: str) -> nodes.Command:
        operands: list[nodes.Operand] = []
        self._space()
        while True:
            token = self._peek()
            if token.kind is Kind.CLOSE or token.text in ("|", ")"):
                break
            operands.append(self._operand(context))
            if not self._space() and self._peek().kind is not Kind.CLOSE:
                after = self._peek()
                if after.text not in ("|", ")"):
                    raise self._fail(f"unexpected <{after.text}> in {context}", after)
        if not operands:
            raise self._fail(f"missing value for {context}")
        return nodes.Command(tuple(operands))

    def _operand(self, context: str) -> nodes.Operand:
        token = self._next()
        match token.kind:
            case Kind.FIELD:
                first = () if token.text == "." else (token.text[1:],)
                return nodes.Field(first + self._chain())
            case Kind.VARIABLE:
                self._known(token.text)
                return nodes.Variable(token.text, self._chain())
            case Kind.STRING:
                return nodes.Literal(_unquoted(token))
            case Kind.NUMBER:
                return nodes.Literal(_number(token))
            case Kind.CHARACTER:
                return nodes.Literal(ord(_unquoted(token)))
            case Kind.WORD:
                return self._word(token)
            case Kind.SIGN if token.text == "(":
                return self._parenthesis()
            case _:
                raise self._fail(f"unexpected <{token.text}> in {context}", token)

    def _word(self, token: Token) -> nodes.Operand:
        if token.text in _CONSTANTS:
            return nodes.Literal(_CONSTANTS[token.text])
        if token.text not in FUNCTIONS:
            raise self._fail(f'function "{token.text}" not defined', token)
        return nodes.Function(token.text)

    def _parenthesis(self) -> nodes.Chain:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._fail("nested too deeply")
        pipeline = self._pipeline("parenthesized pipeline")
        self._space()
        if self._next().text != ")":
            raise self._fail("unclosed left paren")
        self._depth -= 1
        return nodes.Chain(pipeline, self._chain())

    def _chain(self) -> tuple[str, ...]:
        """The fields that follow without a space."""
        names: list[str] = []
        while self._peek().kind is Kind.FIELD and self._peek().text != ".":
            names.append(self._next().text[1:])
        return tuple(names)


def _unquoted(token: Token) -> str:
    """The text that a Go string or character literal means."""
    if token.text.startswith("`"):
        return token.text[1:-1]
    try:
        value = ast.literal_eval(token.text)  # the escapes that Go has mean the same in Python
    except (SyntaxError, ValueError) as error:
        raise TemplateSyntaxError(f"invalid syntax: {token.text}", token.line) from error
    if not isinstance(value, str) or (token.kind is Kind.CHARACTER and len(value) != 1):
        raise TemplateSyntaxError(f"malformed character constant: {token.text}", token.line)
    return value


def _number(token: Token) -> int | float:
    try:
        return int(token.text, 0)
    except ValueError:
        pass
    try:
        return float(token.text)
    except ValueError as error:
        raise TemplateSyntaxError(f"bad number syntax: {token.text!r}", token.line) from error
