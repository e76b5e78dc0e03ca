"""What can't be read says where and in Go's words; hostile text is read in bounded time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qm.modelfiles.gotemplate.check import check
from qm.modelfiles.gotemplate.errors import TemplateSyntaxError
from qm.modelfiles.gotemplate.parser import parse


@pytest.mark.parametrize(
    ("template", "reason", "line"),
    [
        ("{{ .Foo", "unclosed action", 1),
        ("\n{{ end }}", "unexpected {{end}}", 2),
        ("{{ else }}", "unexpected {{else}}", 1),
        ("{{ if .X }}\n\n", "unexpected EOF", 3),
        ("{{ foo }}", 'function "foo" not defined', 1),
        ("{{ $x }}", 'undefined variable "$x"', 1),
        ("{{ if .X }}{{ $x := 1 }}{{ end }}{{ $x }}", 'undefined variable "$x"', 1),
        ("{{ break }}", "outside", 1),
        ('{{ "abc }}', "unterminated quoted string", 1),
        ("{{ /* }}", "unclosed comment", 1),
        ("{{ }}", "missing value", 1),
        ("{{ (1 }}", "unclosed left paren", 1),
        ("{{ .A.B | }}", "missing value", 1),
        ("{{ 1 ? 2 }}", "unrecognized character", 1),
        ("{{ if .A }}" * 300, "nested too deeply", 1),
    ],
)
def test_names_what_is_wrong(template: str, reason: str, line: int) -> None:
    """The error has the reason and the line."""
    with pytest.raises(TemplateSyntaxError) as caught:
        parse(template)
    assert reason in str(caught.value)
    assert caught.value.line == line


@given(st.text(alphabet="{}-/*\"`' .$ifendrange|()x:=,0", max_size=60))
def test_reads_or_refuses(text: str) -> None:
    """Any text is either a template or a typed error."""
    try:
        parse("{{" + text)
    except TemplateSyntaxError:
        return


@pytest.mark.parametrize(
    "template",
    [
        "{{ .Promt }}",
        "{{ range .Items }}{{ end }}",
        "{{ $.Foo }}",
        "{{ if .Sytem }}x{{ end }}",
    ],
)
def test_unknown_variables_are_refused(template: str) -> None:
    """A template that reads what no template ever gets is refused when a model is created."""
    with pytest.raises(TemplateSyntaxError, match="unknown variable"):
        check(template)


def test_fields_of_elements_are_not_top_level() -> None:
    """Inside range and with, names belong to the element."""
    check("{{ range .Messages }}{{ .Role }}{{ end }}{{ with .Tools }}{{ .X }}{{ end }}")


def test_what_is_asked_for_first_may_be_unknown() -> None:
    """Published templates ask for what only other versions have; it is always empty."""
    check("{{ if .ReasoningContent }}<think>{{ .ReasoningContent }}</think>{{ end }}")
    check("{{ if .Thinking }}{{ .Thinking }}{{ end }}{{ with .Documents }}{{ . }}{{ end }}")
