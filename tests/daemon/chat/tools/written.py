"""What models write: calls in every format, and texts that are none."""

from __future__ import annotations

from typing import Any

from qm.daemon.chat.tools.calls import Tools
from qm.daemon.chat.tools.formats import (
    DEEPSEEK,
    GEMMA_CALL,
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
)

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
    (
        "hermes, its mark in a text",
        TAGGED,
        '<tool_call>{"name": "weather", "arguments": {"city": "a \\"</tool_call>\\" b"}}'
        f"</tool_call><tool_call>{NOW_JSON}</tool_call>",
        [("weather", {"city": 'a "</tool_call>" b'}), ("now", {})],
        "",
    ),
    (
        "hermes, its mark in a text, not closed",
        TAGGED,
        '<tool_call>{"name": "weather", "arguments": {"city": "</tool_call>"}}',
        [("weather", {"city": "</tool_call>"})],
        "",
    ),
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
    (
        "mistral, its mark in a text",
        MISTRAL,
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "[TOOL_CALLS]", "days": 2}}]',
        [("weather", {"city": "[TOOL_CALLS]", "days": 2})],
        "",
    ),
    (
        "mistral, new, its mark in a text",
        MISTRAL,
        '[TOOL_CALLS]weather[ARGS]{"city": "a[TOOL_CALLS]b"}\n[TOOL_CALLS]now[ARGS]{}',
        [("weather", {"city": "a[TOOL_CALLS]b"}), ("now", {})],
        "",
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
    ("a mark and no more", TAGGED, "So: <tool_call>\n"),
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
