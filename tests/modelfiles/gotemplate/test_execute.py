"""Go's template language: what each construct prints, as its documentation says."""

from __future__ import annotations

from typing import Any

import pytest
from qm.modelfiles.gotemplate.errors import ExecutionError
from qm.modelfiles.gotemplate.execute import execute
from qm.modelfiles.gotemplate.parser import parse

DATA: dict[str, Any] = {
    "Name": "qm",
    "Empty": "",
    "None": None,
    "Yes": True,
    "Items": ["a", "b", "c"],
    "Map": {"y": 2, "x": 1},
    "Deep": {"Inner": {"Value": 7}},
    "Half": 0.5,
}


def printed(template: str) -> str:
    """What `template` prints for DATA."""
    parts: list[str] = []
    execute(parse(template), DATA, parts.append)
    return "".join(parts)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{ .Name }}", "qm"),
        ("{{.Deep.Inner.Value}}", "7"),
        ("{{ .Missing }}", "<no value>"),
        ("a {{- .Name -}} b", "aqmb"),
        ("a{{- /* gone */ -}} b", "ab"),
        ("{{ 3 -}} x", "3x"),
        ("{{ -3 }}", "-3"),
        (
            "{{ 1.50 }} {{ 1e21 }} {{ 1e20 }} {{ 0x10 }} {{ 'a' }}",
            "1.5 1e+21 100000000000000000000 16 97",
        ),
        ('{{ "tab\\t" }}{{ `raw\\t` }}', "tab\traw\\t"),
        ("{{ if .Yes }}1{{ else }}2{{ end }}", "1"),
        ("{{ if .Empty }}1{{ else if .None }}2{{ else }}3{{ end }}", "3"),
        ("{{ with .Deep }}{{ .Inner.Value }}{{ else }}no{{ end }}", "7"),
        ("{{ with .Empty }}x{{ else with .Name }}{{ . }}{{ end }}", "qm"),
        ("{{ range .Items }}{{ . }},{{ end }}", "a,b,c,"),
        ("{{ range $i, $x := .Items }}{{ $i }}{{ $x }}{{ end }}", "0a1b2c"),
        ("{{ range $k, $v := .Map }}{{ $k }}{{ $v }}{{ end }}", "x1y2"),
        ("{{ range .None }}x{{ else }}none{{ end }}", "none"),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ('{{ range .Items }}{{ if eq . "b" }}{{ continue }}{{ end }}{{ . }}{{ end }}', "ac"),
        ('{{ range .Items }}{{ if eq . "b" }}{{ break }}{{ end }}{{ . }}{{ end }}', "a"),
        ("{{ $x := 1 }}{{ if .Yes }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ if .Yes }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
        ("{{ range .Items }}{{ $.Name }}{{ end }}", "qmqmqm"),
        ('{{ define "t" }}<{{ . }}>{{ end }}{{ template "t" .Name }}', "<qm>"),
        ('{{ block "t" .Name }}[{{ . }}]{{ end }}', "[qm]"),
        ("{{ and .Yes .Name }} {{ and .Empty .Yes }} {{ or .Empty .Name }}", "qm  qm"),
        ("{{ or .Yes (index .Items 9) }}", "true"),
        ("{{ not .Yes }} {{ not .Empty }}", "false true"),
        ('{{ len .Items }} {{ len "é" }} {{ .Items | len }}', "3 2 3"),
        ('{{ index .Items 1 }} {{ index .Map "x" }}', "b 1"),
        ('{{ slice .Items 1 }} {{ slice .Items 0 1 }} {{ slice "hello" 1 3 }}', "[b c] [a] el"),
        (
            '{{ eq .Name "x" "qm" }} {{ ne 1 2 }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt 1 2 }}',
            "true true true true false",
        ),
        ("{{ (index .Items 0) }} {{ (.Deep).Inner.Value }}", "a 7"),
        ("{{ .Items }} {{ .Map }}", "[a b c] map[x:1 y:2]"),
        (
            '{{ json .Map }} {{ json "<a>" }} {{ .Items | json }}',
            '{"y":2,"x":1} "\\u003ca\\u003e" ["a","b","c"]',
        ),
        (
            '{{ printf "%s-%d-%v-%q-%5.2f|%-4s|%04d" .Name 3 .Yes "q" .Half "l" 7 }}',
            'qm-3-true-"q"- 0.50|l   |0007',
        ),
        ('{{ print 1 2 "x" 3 }}', "1 2x3"),
        (
            """{{ html "<a href='x'>" }} {{ js "a='<\\"" }}""",
            r"&lt;a href=&#39;x&#39;&gt; a\u003D\'\u003C\"",
        ),
    ],
)
def test_prints(template: str, expected: str) -> None:
    """Each construct prints what Go prints."""
    assert printed(template) == expected


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ index .Items 9 }}", "out of range"),
        ("{{ index .Name.Foo 1 }}", "can't evaluate field Foo in type string"),
        ("{{ .None.Foo }}", "nil pointer"),
        ('{{ eq 1 "a" }}', "incompatible types"),
        ("{{ len 3 }}", "len of type int"),
        ("{{ slice .Items 2 1 }}", "out of range"),
        ("{{ range .Yes }}{{ end }}", "can't iterate"),
        ('{{ template "nowhere" }}', "not defined"),
        ('{{ define "t" }}{{ template "t" }}{{ end }}{{ template "t" }}', "maximum template depth"),
        ("{{ .Name 1 }}", "non-function"),
        ("{{ not }}", "wrong number of args"),
        ("\n\n{{ .None.Foo }}", "line 3"),
    ],
)
def test_refuses(template: str, reason: str) -> None:
    """What can't be executed is an error that says why, never other output."""
    with pytest.raises(ExecutionError, match=reason):
        printed(template)
