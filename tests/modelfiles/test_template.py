"""Telling Go's template syntax from Jinja, and what a template can do."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qm.modelfiles.gotemplate.errors import TemplateSyntaxError
from qm.modelfiles.template import Syntax, Template

CHATML_GO = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
    "{{ end }}<|im_start|>assistant\n"
)
CHATML_JINJA = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n'"
    " }}{% endif %}"
)


@pytest.mark.parametrize(
    "text",
    [
        CHATML_GO,
        "{{ .Prompt }}",
        "{{.System}} {{.Prompt}}",
        "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}",
        "{{- $last := eq (len (slice .Messages 0)) 1 -}}",
        "{{/* a comment */}}Hello",
        "{{ range $i, $_ := .Messages }}{{ end }}",
        "{{ json .Tools }} and a literal {% percent %}",
        "{{ if .Foo",
    ],
)
def test_knows_go(text: str) -> None:
    """By a field, a variable, a comment or one of Go's words in an action."""
    assert Template.of(text).kind is Syntax.GO


@pytest.mark.parametrize(
    "text",
    [
        CHATML_JINJA,
        "{{ bos_token }}{{ messages[0]['content'] }}",
        "{{ messages[0].content }}",
        "{%- for m in messages -%}{{ '{{ .Prompt }}' }}{%- endfor -%}",
        "{# {{ .Suffix }} #}{% if tools %}x{% endif %}",
        "{{ 'a' if add_generation_prompt else 'b' }}",
        "{{ raise_exception('no') }}",
        "no template at all",
        "",
    ],
)
def test_knows_jinja(text: str) -> None:
    """By a statement, or for want of anything that only Go writes."""
    assert Template.of(text).kind is Syntax.JINJA


@pytest.mark.parametrize(
    ("text", "tools", "suffix", "thinking"),
    [
        (CHATML_GO, False, False, False),
        (CHATML_JINJA, False, False, False),
        ("{{ if .Tools }}{{ json .Tools }}{{ end }}", True, False, False),
        ("{{ range $.Tools }}{{ . }}{{ end }}", True, False, False),
        ("{{ .Prompt }} .Tools .Suffix .Thinking", False, False, False),
        ("{{ if .Suffix }}{{ .Suffix }}{{ end }}", False, True, False),
        ("{{ range .Messages }}<think>{{ .Thinking }}</think>{{ end }}", False, False, True),
        ("{% if tools %}{{ tools | tojson }}{% endif %}", True, False, False),
        ("{% if tools_x %}tools{% endif %}", False, False, False),
        ("{% if enable_thinking %}x{% endif %}", False, False, True),
        ("{% for m in messages %}{{ m.reasoning_content }}{% endfor %}", False, False, True),
        ("{% set c = content.split('</think>') %}<think>", False, False, True),
        ("{% if suffix %}{{ suffix }}{% endif %}", False, True, False),
    ],
)
def test_tells_what_a_template_can_do(text: str, tools: bool, suffix: bool, thinking: bool) -> None:
    """Only code counts, not the text around it."""
    template = Template.of(text)
    found = (template.has_tools, template.has_suffix, template.has_thinking)
    assert found == (tools, suffix, thinking)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ if .Foo", "template error: template: :1: unclosed action"),
        (
            "{{ .Prompt }}\n\n{{ .System }",
            'template error: template: :3: unexpected "}" in operand',
        ),
        ('{{ print "}}"', "template error: template: :1: unclosed action"),
        ("{{ if .A }}\n", "template error: template: :2: unexpected EOF"),
        ("{{ .A }}{{ end }}", "template error: template: :1: unexpected {{end}}"),
        ("{{ .A }}\n{{ else }}", "template error: template: :2: unexpected {{else}}"),
    ],
)
def test_a_broken_go_template_is_refused(text: str, message: str) -> None:
    """In the words of Go's parser, which Ollama passes on."""
    with pytest.raises(TemplateSyntaxError) as caught:
        Template.of(text).check()
    assert str(caught.value) == message
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "text",
    [
        CHATML_GO,
        '{{ print "}}" }}{{ print `}}` }}',
        '{{ print "\\"}}" }}',
        "{{/* }} }} */}}{{ .Prompt }}",
        "{{- /* a\nb */ -}}{{ .Prompt }}",
        "{{ if .Prompt }}{{ else if .Messages }}{{ else }}{{ end }}",
        "{{ with .Prompt }}{{ range .Messages }}{{ break }}{{ end }}{{ end }}",
        '{{ block "x" . }}{{ end }}{{ define "y" }}{{ end }}',
        "{{ .Prompt }} }} stray",
    ],
)
def test_a_sound_go_template_passes(text: str) -> None:
    """Braces in texts and comments end no action."""
    template = Template.of(text)
    assert template.kind is Syntax.GO
    template.check()


@given(st.text(st.sampled_from('{}%.-"`/*\\ \nAifend')))
def test_any_text_can_be_looked_at(text: str) -> None:
    """Nothing but a TemplateSyntaxError comes out."""
    template = Template.of(text)
    assert isinstance(template.has_tools, bool)
    try:
        template.check()
    except TemplateSyntaxError:
        return


@pytest.mark.parametrize("piece", ["{{", "{%", "{{ if x", "{% {{ ", '{{"', "{{ /*", "{{ `"])
def test_a_hostile_text_takes_linear_time(piece: str) -> None:
    """Braces that nobody closes would take minutes here in quadratic time."""
    template = Template.of(piece * 100_000)
    assert not template.has_tools
    assert not template.has_suffix
    with contextlib.suppress(TemplateSyntaxError):
        Template(template.text, Syntax.GO).check()
