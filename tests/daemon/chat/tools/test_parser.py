"""Tool calls come out the same wherever the stream is cut, and nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from qm.daemon.chat.request import Delta, joined
from qm.daemon.chat.tools.calls import Tools
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

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        },
    },
}
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
TOOLS = Tools.of((WEATHER, NOW))
OSLO = ("weather", {"city": "Oslo", "days": 2})
BOTH = [OSLO, ("now", {})]

OSLO_JSON = '{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}'
NOW_JSON = '{"name": "now", "arguments": {}}'
LLAMA_JSON = '{"name": "weather", "parameters": {"city": "Oslo", "days": 2}}'

CALLS: list[tuple[str, ToolFormat, str, list[tuple[str, Any]], str]] = [
    ("hermes", TAGGED, f"<tool_call>\n{OSLO_JSON}\n</tool_call>", [OSLO], ""),
    (
        "hermes, two after a text",
        TAGGED,
        f"Let me see.\n<tool_call>{OSLO_JSON}</tool_call>\n<tool_call>{NOW_JSON}</tool_call>\n",
        BOTH,
        "Let me see.",
    ),
    ("hermes, not closed", TAGGED, f"<tool_call>\n{OSLO_JSON}", [OSLO], ""),
    ("hermes, no marks", TAGGED, OSLO_JSON, [OSLO], ""),
    ("granite list", TAGGED, f"<tool_call>[{OSLO_JSON}, {NOW_JSON}]</tool_call>", BOTH, ""),
    (
        "qwen xml",
        TAGGED,
        "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n"
        "</parameter>\n</function>\n</tool_call>",
        [OSLO],
        "",
    ),
    (
        "glm",
        TAGGED,
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
        [OSLO],
        "",
    ),
    ("llama 3.1", LLAMA, LLAMA_JSON, [OSLO], ""),
    (
        "llama, several",
        LLAMA,
        LLAMA_JSON + '; {"name": "now", "parameters": {}}',
        BOTH,
        "",
    ),
    (
        "llama, python tag",
        LLAMA,
        '<|python_tag|>{"name": "now", "parameters": {}}',
        [("now", {})],
        "",
    ),
    ("pythonic", LLAMA, '[weather(city="Oslo", days=2), now()]', BOTH, ""),
    (
        "llama 4",
        LLAMA,
        '<|python_start|>[weather("Oslo", days=2)]<|python_end|>',
        [OSLO],
        "",
    ),
    ("mistral", MISTRAL, f"[TOOL_CALLS] [{OSLO_JSON}, {NOW_JSON}]", BOTH, ""),
    (
        "mistral, new",
        MISTRAL,
        'ok[TOOL_CALLS]weather[ARGS]{"city": "Oslo", "days": 2}[TOOL_CALLS]now[ARGS]{}',
        BOTH,
        "ok",
    ),
    ("phi", PIPED, f"<|tool_call|>[{OSLO_JSON}]<|/tool_call|>", [OSLO], ""),
    ("functools", PIPED, f"functools[{OSLO_JSON}]", [OSLO], ""),
    (
        "deepseek v3",
        DEEPSEEK,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
        '{"city": "Oslo", "days": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        [OSLO],
        "",
    ),
    (
        "deepseek v3.1",
        DEEPSEEK,
        "One moment.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
        '{"city": "Oslo", "days": 2}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        [OSLO],
        "One moment.",
    ),
    ("gemma 3", TOOL_CODE, '```tool_code\nweather(city="Oslo", days=2)\n```', [OSLO], ""),
    ("gemma 3, json", TOOL_CODE, f"```json\n{OSLO_JSON}\n```", [OSLO], ""),
    (
        "functiongemma",
        GEMMA_CALL,
        "<start_function_call>call:weather{city:<escape>Oslo<escape>,days:2}<end_function_call>",
        [OSLO],
        "",
    ),
    (
        "functiongemma, nested",
        GEMMA_CALL,
        "<start_function_call>call:weather{city:[<escape>a,b<escape>,{x:1.5,y:true}],days:2}"
        "<end_function_call>",
        [("weather", {"city": ["a,b", {"x": 1.5, "y": True}], "days": 2})],
        "",
    ),
    (
        "gemma 4",
        GEMMA_CALL,
        'Yes.<|tool_call>call:weather{city:<|"|>Oslo<|"|>,days:2}<tool_call|>'
        "<|tool_call>call:now{}<tool_call|>",
        BOTH,
        "Yes.",
    ),
    (
        "qwen3-coder, without its tag",
        QWEN_XML,
        "Let me look.\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n"
        "<parameter=days>\n2\n"
        "</parameter>\n</function>\n</tool_call>",
        [OSLO],
        "Let me look.",
    ),
    (
        "llama's custom function",
        QWEN_XML,
        '<function=weather>{"city": "Oslo", "days": 2}</function>',
        [OSLO],
        "",
    ),
    (
        "kimi k2",
        KIMI,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
        '<|tool_call_argument_begin|>{"city": "Oslo", "days": 2}<|tool_call_end|>'
        "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_calls_section_end|>",
        BOTH,
        "",
    ),
    (
        "minimax m2",
        INVOKED,
        '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Oslo</parameter>\n'
        '<parameter name="days">2</parameter>\n</invoke>\n<invoke name="now">\n</invoke>\n'
        "</minimax:tool_call>",
        BOTH,
        "",
    ),
    (
        "seed-oss",
        SEED,
        "<seed:tool_call>\n<function=weather>\n<parameter=city>Oslo</parameter>\n"
        "<parameter=days>2</parameter>\n</function>\n</seed:tool_call>",
        [OSLO],
        "",
    ),
    (
        "lfm2",
        LISTED,
        '<|tool_call_start|>[weather(city="Oslo", days=2), now()]<|tool_call_end|>',
        BOTH,
        "",
    ),
    (
        "command r7b",
        LISTED,
        '<|START_ACTION|>[\n {"tool_call_id": "0", "tool_name": "weather", '
        '"parameters": {"city": "Oslo", "days": 2}}\n]<|END_ACTION|>',
        [OSLO],
        "",
    ),
    ("nemotron", LISTED, f"<TOOLCALL>[{OSLO_JSON}]</TOOLCALL>", [OSLO], ""),
    ("glm 4", NAMED, 'weather\n{"city": "Oslo", "days": 2}', [OSLO], ""),
    (
        "mistral small, with an id",
        MISTRAL,
        '[TOOL_CALLS]weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Oslo", "days": 2}',
        [OSLO],
        "",
    ),
    (
        "python with JSON's constants",
        LLAMA,
        '[weather(city="Oslo", days=[true, null])]',
        [("weather", {"city": "Oslo", "days": [True, None]})],
        "",
    ),
    ("plain", PLAIN, OSLO_JSON, [OSLO], ""),
    (
        "plain, openai's shape",
        PLAIN,
        '{"type": "function", "function": {"name": "weather", '
        '"arguments": "{\\"city\\": \\"Oslo\\", \\"days\\": 2}"}}',
        [OSLO],
        "",
    ),
]

TEXTS: list[tuple[str, ToolFormat, str]] = [
    ("plain text", TAGGED, "The sky is <b>blue</b>. <tool"),
    ("broken JSON", TAGGED, 'x <tool_call>{"name": "weather", "argum</tool_call> y'),
    ("cut in the middle", TAGGED, '<tool_call>{"name": "weather", "arguments": {"ci'),
    ("other JSON", TAGGED, '{"name": "Ada", "born": 1815}'),
    ("an unknown tool without marks", LLAMA, '{"name": "nothing", "parameters": {}}'),
    ("a list", LLAMA, "[1, 2, 3]"),
    ("arguments that are no object", PLAIN, '{"name": "weather", "arguments": [1]}'),
    ("no call in deepseek's marks", DEEPSEEK, "<｜tool▁calls▁begin｜>hm<｜tool▁calls▁end｜>"),
    ("code", TOOL_CODE, "```json\n[1, 2]\n``` is a list"),
    ("mistral with garbage", MISTRAL, "[TOOL_CALLS]weather{{"),
    ("code about functools", PIPED, "Use functools.lru_cache for that"),
    (
        "xml that is cut in a value",
        QWEN_XML,
        "<tool_call>\n<function=weather>\n<parameter=city>\nOs",
    ),
    (
        "xml with something between",
        TAGGED,
        "<tool_call><function=weather>so <parameter=city>Oslo</parameter></function></tool_call>",
    ),
    ("glm that is cut", TAGGED, "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Os"),
    (
        "deepseek that is cut in its second call",
        DEEPSEEK,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
        '<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"ci',
    ),
    ("gemma that is cut", GEMMA_CALL, "<start_function_call>call:weather{city:<escape>Os"),
    ("kimi that is cut", KIMI, "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0"),
    ("minimax that is cut", INVOKED, '<minimax:tool_call><invoke name="now">'),
    ("glm 4 that is cut", NAMED, 'weather\n{"city'),
]


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
    assert parsed(HARMONY, ["Hello"]).content == "Hello"


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
