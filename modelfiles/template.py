"""Prompt templates: which of the two syntaxes one is written in, and what it can do.

GGUF files carry Jinja; Ollama's Modelfiles are written in the syntax of Go's text/template. Both
write `{{ … }}`, so the words inside tell them apart. Nothing here renders a template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from .reasoning import has_marks


class Syntax(StrEnum):
    """The language of a template."""

    JINJA = "jinja"
    GO = "go"


@dataclass(frozen=True, slots=True)
class Template:
    """A template's text and its syntax."""

    text: str
    kind: Syntax

    @classmethod
    def of(cls, text: str) -> Template:
        """The template with its syntax told from its words; text without any is Jinja."""
        return cls(text, Syntax.GO if _is_go(text) else Syntax.JINJA)

    @property
    def has_tools(self) -> bool:
        """It shows tools to the model."""
        return self._mentions(r"\.Tools\b", r"\btools\b")

    @property
    def has_suffix(self) -> bool:
        """It renders what stands after a gap to fill in."""
        return self._mentions(r"\.Suffix\b", r"\bsuffix\b")

    @property
    def has_thinking(self) -> bool:
        """It keeps the model's reasoning apart from its answers."""
        if self.kind is Syntax.JINJA and has_marks(self.text):
            return True
        return self._mentions(
            r"\.(Thinking|Think|ThinkLevel|IsThinkSet)\b",
            r"\b(enable_thinking|thinking|reasoning_content|reasoning_effort)\b",
        )

    def check(self) -> None:
        """Raises TemplateSyntaxError for Go syntax that can't be read, or reads what never is."""
        if self.kind is Syntax.GO:
            from .gotemplate.check import check  # noqa: PLC0415  # most commands never need it

            check(self.text)

    def _mentions(self, in_go: str, in_jinja: str) -> bool:
        pattern = re.compile(in_go if self.kind is Syntax.GO else in_jinja)
        return any(pattern.search(code) for code in _code(self.text))


_OPENING = re.compile(r"\{\{|\{%")
_CLOSING = {"{{": "}}", "{%": "%}"}
_JINJA_STATEMENT = re.compile(
    r"\{%[-+]?\s*(if|for|set|macro|block|raw|generation|filter|call|import|from|include|extends|do)\b"
)
_GO_ACTION = re.compile(
    r"\{\{-?\s*("
    r"\.[A-Za-z]"  # a field: {{ .Prompt }}
    r"|\.\s*(-?\}\}|\|)"  # the dot itself
    r"|\$"  # a variable: {{ $last := … }}
    r"|/\*"  # a comment
    r"|(if|range|with|else|end|define|template|block|break|continue|len|index|slice|json|printf"
    r"|print|eq|ne|lt|le|gt|ge|and|or|not)\b\s*[-.$(\"}\w]"
    r")"
)


def _code(text: str) -> Iterator[str]:
    """What stands between braces, in linear time even if no brace is ever closed."""
    unclosed: set[str] = set()
    at = 0
    while opening := _OPENING.search(text, at):
        closing = _CLOSING[opening[0]]
        end = -1 if closing in unclosed else text.find(closing, opening.end())
        if end < 0:
            unclosed.add(closing)
            at = opening.end()
            continue
        yield text[opening.end() : end]
        at = end + len(closing)


def _is_go(text: str) -> bool:
    return _JINJA_STATEMENT.search(text) is None and _GO_ACTION.search(text) is not None
