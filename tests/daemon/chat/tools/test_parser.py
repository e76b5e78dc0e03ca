"""Tool calls come out the same wherever the stream is cut, and nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from qm.daemon.chat.request import Delta, joined
from qm.daemon.chat.tools.formats import (
    DEEPSEEK,
    GEMMA_CALL,
    HARMONY,
    INVOKED,
    KIMI,
    LISTED,
    LLAMA,
    MISTRAL,
    NAMED,
    PIPED,
    PLAIN,
    QWEN_XML,
    SEED,
    TAGGED,
    TOOL_CODE,
    ToolFormat,
    choose,
)
from qm.daemon.chat.tools.harmony import HarmonyParser
from qm.daemon.chat.tools.parser import ToolCallParser

from .written import CALLS, NOW_JSON, OSLO, TEXTS, TOOLS


def parsed(form: ToolFormat, pieces: list[str]) -> Delta:
    """Everything that the parser gives for `pieces`."""
    parser = HarmonyParser() if form is HARMONY else ToolCallParser(form, TOOLS)
    total = joined([*(parser.feed(piece) for piece in pieces), parser.finish()])
    assert parser.called is bool(total.tool_calls)
    return total


def from_parts(delta: Delta) -> list[tuple[str, Any]]:
    """The calls that a client of the streamed parts puts together."""
    names: dict[int, str] = {}
    texts: dict[int, str] = {}
    for part in delta.tool_parts:
        names[part.index] = names.get(part.index, "") + part.name
        texts[part.index] = texts.get(part.index, "") + part.arguments
        assert bool(part.id) is bool(part.name)
    return [(names[index], json.loads(texts[index])) for index in sorted(names)]


def cuts(text: str) -> list[list[str]]:
    """`text` whole, cut in two at every point, and letter by letter."""
    return [[text[:at], text[at:]] for at in range(len(text))] + [list(text)]


@pytest.mark.parametrize(
    ("form", "text", "calls", "content"),
    [case[1:] for case in CALLS],
    ids=[case[0] for case in CALLS],
)
def test_calls(form: ToolFormat, text: str, calls: list[tuple[str, Any]], content: str) -> None:
    """Whole calls, and the same put together from parts, at every split point."""
    for pieces in cuts(text):
        delta = parsed(form, pieces)
        assert [(call.name, call.arguments) for call in delta.tool_calls] == calls
        assert [call.index for call in delta.tool_calls] == list(range(len(calls)))
        assert from_parts(delta) == calls
        assert delta.content == content


@pytest.mark.parametrize(
    ("form", "text"), [case[1:] for case in TEXTS], ids=[case[0] for case in TEXTS]
)
def test_text_is_never_lost(form: ToolFormat, text: str) -> None:
    """What is no call reaches the client as it stands."""
    for pieces in cuts(text):
        delta = parsed(form, pieces)
        assert delta.tool_calls == ()
        assert delta.content == text


def test_arguments_stream_while_they_are_written() -> None:
    """The name comes with the opening brace, each piece of the arguments as it arrives."""
    parser = ToolCallParser(TAGGED, TOOLS)
    begun = parser.feed('<tool_call>{"name": "weather", "arguments": {"city')
    assert [part.name for part in begun.tool_parts if part.name] == ["weather"]
    more = parser.feed('": "Os')
    assert "".join(part.arguments for part in more.tool_parts) == '":"Os'
    assert begun.tool_calls == more.tool_calls == ()


def test_mistral_streams_its_arguments() -> None:
    """After a name and [ARGS], too."""
    parser = ToolCallParser(MISTRAL, TOOLS)
    begun = parser.feed('[TOOL_CALLS]weather[ARGS]{"city')
    assert [part.name for part in begun.tool_parts if part.name] == ["weather"]
    assert "".join(part.arguments for part in parser.feed('": "Os').tool_parts) == '":"Os'


def test_streamed_arguments_are_the_text_of_the_whole_ones() -> None:
    """White space that says nothing is left out; what stands in a string stays."""
    body = '{"name": "weather", "arguments": {\n  "city": "New \\" York",\t"days" : 2 }}'
    for pieces in cuts(f"<tool_call>{body}</tool_call>"):
        delta = parsed(TAGGED, pieces)
        streamed = "".join(part.arguments for part in delta.tool_parts)
        assert streamed == delta.tool_calls[0].arguments_json()
        assert delta.tool_calls[0].arguments == {"city": 'New " York', "days": 2}


MODELS_WRITE: list[tuple[ToolFormat, str]] = [
    (TAGGED, '<tool_call>{"name": "weather", "arguments": {"city": "\\ud83d"}}</tool_call>'),
    (TAGGED, '<tool_call>{"name": "weather", "arguments": {"days": NaN}}</tool_call>'),
    (LLAMA, "<|python_tag|>weather(city={1, 2})"),
    (LLAMA, '<|python_tag|>weather(city=b"x", days={(1,): 2})'),
    (LLAMA, "<|python_tag|>weather(city={[]: 1})"),
    (PLAIN, '{"name": "weather", "arguments": {"days": ' + "[" * 300),
    (PLAIN, '{"name": "weather", "arguments": {"days": ' + "9" * 5000 + "}}"),
    (MISTRAL, "[TOOL_CALLS]weather[ARGS]{" + '"a":{' * 3000),
    (LLAMA, "<|python_tag|>" + "-" * 3000 + "1"),
    (LLAMA, "<|python_tag|>" + "a." * 3000 + "b()"),
]


@pytest.mark.parametrize(("form", "text"), MODELS_WRITE)
def test_whatever_a_model_writes_can_be_sent(form: ToolFormat, text: str) -> None:
    """As a call whose arguments are JSON in UTF-8, or as text; it never breaks the answer."""
    delta = parsed(form, [text])
    for call in delta.tool_calls:
        assert json.loads(call.arguments_json()) == call.arguments
    if not delta.tool_calls:
        assert delta.content == text


def test_line_breaks_in_strings() -> None:
    """Models write them without escapes; the client gets JSON all the same, wherever cut."""
    text = '<tool_call>{"name": "weather", "arguments": {"city": "a\n\tb"}}</tool_call>'
    for pieces in cuts(text):
        told = parsed(TAGGED, pieces)
        assert from_parts(told) == [("weather", {"city": "a\n\tb"})]
        assert told.tool_calls[0].arguments == {"city": "a\n\tb"}


@pytest.mark.parametrize(
    "written",
    [
        '{"city": "Oslo", "days": 2,}',
        '{"city": "Oslo", "wet": True, "x": [None, 1.5]}',
        """{"city": 'Oslo', "days": 2}""",
        '{"city" "days": 2}',
        '{"city": "\\ud83d\\ude00 \\ud83d", "days": [{}, []]}',
        '{"city": "Os\\/lo", "days": {"a": -1e3}}',
    ],
)
def test_what_only_python_reads_streams_as_json(written: str) -> None:
    """The parts of a call are JSON, and say what the whole one says, wherever cut."""
    text = f'<tool_call>[{{"name": "weather", "arguments": {written}}}, {NOW_JSON}]</tool_call>'
    for pieces in cuts(text):
        told = parsed(TAGGED, pieces)
        assert not told.content
        assert from_parts(told) == [(call.name, call.arguments) for call in told.tool_calls]
        assert len(told.tool_calls) == 2


BROKEN = '{"name": "weather", "arguments": {"city": "Oslo", "days": }}'
HARMONY_CALL = "<|channel|>commentary to=functions.{}<|message|>{}<|call|><|start|>assistant"


@pytest.mark.parametrize(
    ("form", "text", "first"),
    [
        (TAGGED, f"<tool_call>{BROKEN}</tool_call>\n<tool_call>{NOW_JSON}</tool_call>", BROKEN),
        (
            TAGGED,
            f'<tool_call>{BROKEN[:-5]}"</tool_call> <tool_call>{NOW_JSON}</tool_call>',
            BROKEN[:-5],
        ),
        (HARMONY, HARMONY_CALL.format("weather", "{") + HARMONY_CALL.format("now", "{}"), "{"),
    ],
)
def test_a_call_after_a_broken_one_is_another(form: ToolFormat, text: str, first: str) -> None:
    """What was told of the broken one can't be taken back; the next one doesn't continue it."""
    delta = parsed(form, list(text))
    (call,) = delta.tool_calls
    named = {part.index: part.name for part in delta.tool_parts if part.name}
    assert named == {0: "weather", 1: "now"}
    assert call.index == 1
    assert "".join(part.arguments for part in delta.tool_parts if part.index == 1) == "{}"
    assert first in delta.content


def test_text_is_not_held_back() -> None:
    """Ordinary text passes at once, up to what may begin a mark."""
    parser = ToolCallParser(TAGGED, TOOLS)
    assert parser.feed("Hello there <").content == "Hello there"
    assert parser.feed("b>").content == " <b>"


HARMONY_TEXT = (
    "<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant<|channel|>commentary "
    'to=functions.weather <|constrain|>json<|message|>{"city": "Oslo", "days": 2}'
)
HARMONY_ANSWER = (
    "<|channel|>analysis<|message|>Hm.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Hi<|return|>"
)


def test_harmony() -> None:
    """Channels become reasoning, calls and content."""
    for pieces in cuts(HARMONY_TEXT):
        delta = parsed(HARMONY, pieces)
        assert (delta.thinking, delta.content) == ("I need it.", "")
        assert [(call.name, call.arguments) for call in delta.tool_calls] == [OSLO]
        assert from_parts(delta) == [OSLO]


def test_harmony_goes_on_where_the_prompt_ends() -> None:
    """The recipient may be the first word; what has no end is no header but text."""
    written = (
        ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Oslo", "days": 2}'
    )
    for pieces in cuts(written):
        delta = parsed(HARMONY, pieces)
        assert ([(call.name, call.arguments) for call in delta.tool_calls], delta.content) == (
            [OSLO],
            "",
        )
    assert parsed(HARMONY, ["<|channel|>analysis"]) == Delta()
    broken = "<|channel|>final It is blue."
    for pieces in cuts(broken):
        assert parsed(HARMONY, pieces).content == broken


def test_harmony_answer() -> None:
    """The final channel is the answer; so is text without any channel."""
    for pieces in cuts(HARMONY_ANSWER):
        assert parsed(HARMONY, pieces) == Delta(content="Hi", thinking="Hm.")
    for pieces in cuts("Hello<|end|>" + HARMONY_ANSWER):
        assert parsed(HARMONY, pieces) == Delta(content="HelloHi", thinking="Hm.")


def test_harmony_without_arguments() -> None:
    """Nothing at all is an empty object, also in the parts."""
    for pieces in cuts("<|channel|>commentary to=functions.now<|message|><|call|>"):
        assert from_parts(parsed(HARMONY, pieces)) == [("now", {})]


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ('... <tool_call>\n{"name": ...', TAGGED),
        ("{% if tools %}[AVAILABLE_TOOLS] [TOOL_CALLS]{% endif %}", MISTRAL),
        ("<|start_header_id|>ipython<|end_header_id|>", LLAMA),
        ("<|tool_call|>", PIPED),
        ("<｜tool▁calls▁begin｜>", DEEPSEEK),
        ("<start_of_turn>model", TOOL_CODE),
        ("<start_of_turn>developer <start_function_call>call:", GEMMA_CALL),
        ("<|turn>model <|tool_call>call:", GEMMA_CALL),
        ("<tool_call>\n<function=example_function_name>", QWEN_XML),
        ("<|tool_list_start|>[", LISTED),
        ("<|tool_calls_section_begin|>", KIMI),
        ("<minimax:tool_call>", INVOKED),
        ("<seed:tool_call>\n<function=", SEED),
        ("[gMASK]<sop> <|observation|>", NAMED),
        ("<|start|>assistant<|channel|>final", HARMONY),
        ("{{ messages }}", PLAIN),
    ],
)
def test_the_template_tells_the_format(template: str, form: ToolFormat) -> None:
    """The words of a chat template announce how its model writes calls."""
    assert choose(template) is form
