"""Conversations through templates as Ollama's Modelfiles have them."""

from __future__ import annotations

from typing import Any

import pytest
from qm.modelfiles.gotemplate.chat import render_chat

CHATML = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n"
)
LEGACY = (
    "{{ if .System }}<|system|>{{ .System }}</s>{{ end }}"
    "{{ if .Prompt }}<|user|>{{ .Prompt }}</s>{{ end }}<|assistant|>{{ .Response }}</s>"
)
HERMES = (
    "{{- if .Tools }}# Tools\n{{ range .Tools }}{{ json . }}\n{{ end }}{{ end }}"
    "{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}"
    '{{- if eq .Role "assistant" }}{{ range .ToolCalls }}<tool_call>'
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>{{ end }}'
    "{{- else }}[{{ .Role }}] {{ .Content }}{{ end }}{{ if $last }}!{{ end }}\n{{ end }}"
)
TURNS = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "now",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"]}},
        },
    },
}


def rendered(template: str, **context: Any) -> str:
    """The prompt of `context`."""
    parts: list[str] = []
    render_chat(template, context, parts.append)
    return "".join(parts)


def test_whole_conversation() -> None:
    """A template that ranges over .Messages gets all of them."""
    prompt = rendered(CHATML, messages=TURNS[:2])
    assert prompt == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
    )


def test_turn_by_turn() -> None:
    """A template of one turn is executed once a turn and ends where the response would stand."""
    assert rendered(LEGACY, messages=TURNS) == (
        "<|system|>S</s><|user|>one</s><|assistant|>two</s><|user|>three</s><|assistant|>"
    )


def test_response_is_implied() -> None:
    """A template that names no response has it at its end."""
    assert rendered("{{ .Prompt }}\n", messages=TURNS[1:]) == "one\ntwothree\n"


def test_conditional_response_is_cut() -> None:
    """What follows the response inside a condition is not printed either."""
    template = "{{ .Prompt }}:{{ if .Response }}{{ .Response }}</s>{{ end }}tail"
    assert rendered(template, messages=TURNS[1:]) == "one:two</s>tailthree:"


def test_fill_in_the_middle() -> None:
    """A suffix goes to the template together with the prompt."""
    template = "{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}"
    assert rendered(template, prompt="a", suffix="b", messages=[]) == "<P>a<S>b<M>"


def test_tools_and_calls() -> None:
    """Tools print as JSON, arguments as a JSON object, and the last message can be told."""
    call = {"id": "1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    turns = [TURNS[1], {"role": "assistant", "content": "", "tool_calls": [call]}]
    prompt = rendered(HERMES, messages=turns, tools=[WEATHER])
    assert '{"type":"function","function":{"name":"weather"' in prompt
    assert '<tool_call>{"name": "weather", "arguments": {"city":"Oslo"}}</tool_call>!' in prompt


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ .Type }}", "string|[integer null]|"),
        ("{{ .ToTypeScriptType }}", "string|integer_or_null|"),
    ],
)
def test_properties_of_parameters(template: str, expected: str) -> None:
    """A template may walk the properties of a tool's parameters."""
    text = (
        "{{ range .Messages }}{{ end }}{{ range .Tools }}"
        "{{ range $name, $p := .Function.Parameters.Properties }}{{ with $p }}"
        f"{template}{{{{ end }}}}|{{{{ end }}}}{{{{ end }}}}"
    )
    expected = expected.replace("integer_or_null", "number | null")
    assert rendered(text, messages=[], tools=[WEATHER]) == expected


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("string", "string"),
        (["integer", "null"], "integer | null"),
    ],
)
def test_types_of_a_property_are_a_list(kinds: object, expected: str) -> None:
    """As the templates of gpt-oss go through them; one type compares like text, too."""
    text = (
        "{{ range .Messages }}{{ end }}{{ range .Tools }}"
        "{{ range $_, $p := .Function.Parameters.Properties }}"
        "{{ if gt (len $p.Type) 1 }}{{ range $i, $t := $p.Type }}{{ if $i }} | {{ end }}{{ $t }}"
        '{{ end }}{{ else if eq $p.Type "string" }}{{ index $p.Type 0 }}{{ end }}'
        "{{ end }}{{ end }}"
    )
    function = {"name": "f", "parameters": {"properties": {"x": {"type": kinds}}}}
    assert rendered(text, messages=[], tools=[{"function": function}]) == expected


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([], "null"),
        (["a", "b"], '[{"function":{"name":"a"}},{"function":{"name":"b"}}]'),
    ],
)
def test_all_tools_print_as_json(tools: list[str], expected: str) -> None:
    """`{{ .Tools }}` is the same as `{{ json .Tools }}`, as Mistral's templates have it."""
    described = [{"function": {"name": name}} for name in tools]
    prompt = rendered(
        "{{ .Tools }} {{ json .Tools }}{{ range .Messages }}{{ end }}", messages=[], tools=described
    )
    assert prompt == f"{expected} {expected}"


def test_maps_are_visited_by_key() -> None:
    """As Go visits and prints its maps, whatever order the call came in."""
    call = {"function": {"name": "f", "arguments": {"b": {"d": 1, "c": 2}, "a": 3}}}
    text = (
        "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}"
        "{{ range $k, $v := .Function.Arguments }} {{ $k }}{{ end }}{{ end }}{{ end }}"
    )
    turns = [{"role": "assistant", "tool_calls": [call]}]
    assert rendered(text, messages=turns) == '{"a":3,"b":{"c":2,"d":1}} a b'


def test_thinking() -> None:
    """Whether to think is told apart from not having been asked."""
    template = (
        "{{ range .Messages }}{{ end }}{{ if and .IsThinkSet (not .Think) }}/no_think{{ end }}"
    )
    assert rendered(template, messages=[], enable_thinking=False) == "/no_think"
    assert rendered(template, messages=[]) == ""
