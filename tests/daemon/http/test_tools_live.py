"""Calls that must be made, through the official clients, in the notations of several families.

The model is the demo model with templates that announce each family's notation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from openai.types.chat import ChatCompletionToolUnionParam
from openai.types.shared_params import FunctionDefinition

from .conftest import create

pytestmark = pytest.mark.slow

TOOLS = "{% if tools %}{{ tools | tojson }}\n{% endif %}"
TURNS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %} {{ c.function.name }}{% endfor %}\n{% endfor %}assistant:"
)
# It takes neither system turns nor two calls in a turn, as some do.
STRICT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{% if m.tool_calls and m.tool_calls | length > 1 %}{{ raise_exception('one') }}{% endif %}"
    "{% endfor %}"
)
# Its reasoning has begun, and this model knows no end of it.
THINKS = "{% if enable_thinking is not false %}<think>\n{% endif %}"
FAMILIES = {
    "qwen": "<tool_call></tool_call>",
    "llama": "<|start_header_id|>ipython<|end_header_id|><|python_tag|>",
    "mistral": "[AVAILABLE_TOOLS][TOOL_CALLS]",
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Paris"]}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER_FUNCTION: FunctionDefinition = {
    "name": "weather",
    "description": "The weather",
    "parameters": SCHEMA,
}
WEATHER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": WEATHER_FUNCTION,
}
NOW: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {"name": "now", "parameters": {"type": "object", "additionalProperties": False}},
}
ASKED = [{"role": "user", "content": "Weather in Oslo?"}]


@pytest.fixture(scope="module")
def url(start_module_daemon: Callable[..., Any], smollm2_gguf: Path) -> str:
    """A daemon whose models are named like the families."""
    daemon = start_module_daemon()
    create(daemon, "strict", smollm2_gguf, template=STRICT + TOOLS + TURNS)
    thinks = {"model": "endless", "from": "strict", "template": TOOLS + TURNS + THINKS}
    daemon.json("POST", "/api/create", {**thinks, "stream": False})
    for name, marks in FAMILIES.items():
        words = "{% if tools %}{{ '" + marks + "' }}{% endif %}" + TOOLS + TURNS
        made = {"model": name, "from": "strict", "template": words, "stream": False}
        daemon.json("POST", "/api/create", made)
    return f"http://{daemon.json('GET', '/qm/status')['host']}"


@pytest.fixture(scope="module")
def gpt(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def claude(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="x", max_retries=0, timeout=120) as client:
        yield client


def fits(name: str, arguments: object) -> bool:
    """Whether it is a call to one of the tools, with arguments of its schema."""
    if name == "now":
        return arguments == {}
    assert name == "weather"
    assert isinstance(arguments, dict)
    return arguments["city"] in ("Oslo", "Paris") and arguments["days"] in (1, 2)


def test_functions_of_old_clients(gpt: openai.OpenAI) -> None:
    """Called by name, whole and streamed, and gone on from."""
    asked: dict[str, Any] = {
        "model": "qwen",
        "messages": ASKED,
        "functions": [WEATHER_FUNCTION],
        "function_call": {"name": "weather"},
        "max_tokens": 64,
        "temperature": 0,
    }
    (whole,) = gpt.chat.completions.create(**asked).choices
    assert whole.finish_reason == "function_call"
    call = whole.message.function_call
    assert call is not None
    assert fits(call.name, json.loads(call.arguments))
    chunks = [chunk.choices[0] for chunk in gpt.chat.completions.create(**asked, stream=True)]
    parts = [one.delta.function_call for one in chunks if one.delta.function_call]
    assert (parts[0].name, chunks[-1].finish_reason) == ("weather", "function_call")
    assert json.loads("".join(part.arguments or "" for part in parts)) == json.loads(call.arguments)
    told = {"role": "function", "name": "weather", "content": "rain"}
    turns: Any = [*ASKED, whole.message.model_dump(exclude_none=True), told]
    after = gpt.chat.completions.create(model="qwen", messages=turns, max_tokens=2, temperature=0)
    assert after.choices[0].finish_reason in ("length", "stop")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "now"}}])
def test_openai(gpt: openai.OpenAI, family: str, choice: Any) -> None:
    """Whole and streamed, by the client's own gathering of the pieces."""
    asked: dict[str, Any] = {
        "model": family,
        "messages": ASKED,
        "tools": [WEATHER, NOW],
        "tool_choice": choice,
        "max_tokens": 64,
        "temperature": 0,
    }
    whole: Any = gpt.chat.completions.create(**asked).choices[0]
    with gpt.chat.completions.stream(**asked) as stream:
        streamed: Any = stream.get_final_completion().choices[0]
    for answer in (whole, streamed):
        assert answer.finish_reason == "tool_calls"
        assert not answer.message.content
        (call,) = answer.message.tool_calls or []
        assert fits(call.function.name, json.loads(call.function.arguments))
        assert choice == "required" or call.function.name == "now"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_anthropic(claude: anthropic.Anthropic, family: str, choice: Any) -> None:
    asked: dict[str, Any] = {
        "model": family,
        "messages": ASKED,
        "tools": [
            {"name": "weather", "input_schema": SCHEMA},
            {"name": "now", "input_schema": {"type": "object", "additionalProperties": False}},
        ],
        "tool_choice": choice,
        "max_tokens": 64,
        "extra_body": {"temperature": 0},
    }
    whole: Any = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        streamed: Any = stream.get_final_message()
    for answer in (whole, streamed):
        assert answer.stop_reason == "tool_use"
        (block,) = answer.content
        assert block.type == "tool_use"
        assert fits(block.name, block.input)
        assert choice["type"] == "any" or block.name == "weather"


def test_reasoning_without_end_leaves_room_for_the_call(gpt: openai.OpenAI) -> None:
    """Half of the tokens at most; without reasoning the call comes at once."""
    asked: dict[str, Any] = {
        "model": "endless",
        "messages": ASKED,
        "tools": [WEATHER],
        "tool_choice": "required",
        "max_tokens": 96,
        "temperature": 0,
    }
    with gpt.chat.completions.stream(**asked) as stream:
        streamed: Any = stream.get_final_completion().choices[0]
    at_once: Any = gpt.chat.completions.create(**asked, reasoning_effort="none").choices[0]
    for answer in (streamed, at_once):
        assert answer.finish_reason == "tool_calls"
        (call,) = answer.message.tool_calls
        assert fits(call.function.name, json.loads(call.function.arguments))
    assert streamed.message.reasoning_content
    assert not getattr(at_once.message, "reasoning_content", "")


def test_responses(gpt: openai.OpenAI) -> None:
    function = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
    asked: dict[str, Any] = {
        "model": "mistral",
        "input": "Weather in Oslo?",
        "tools": [function],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_output_tokens": 64,
        "temperature": 0,
    }
    whole: Any = gpt.responses.create(**asked)
    with gpt.responses.stream(**asked) as stream:
        streamed: Any = stream.get_final_response()
    for answer in (whole, streamed):
        (item,) = answer.output
        assert fits(item.name, json.loads(item.arguments))
        assert (answer.temperature, answer.parallel_tool_calls) == (0, False)


def test_custom_tools(gpt: openai.OpenAI) -> None:
    """Their input is held to a regular expression, whole and streamed, in both APIs."""
    regex = {"syntax": "regex", "definition": "(ls|pwd) [a-c]{2}"}
    custom = {"name": "shell", "description": "Runs a command"}
    asked: dict[str, Any] = {
        "model": "qwen",
        "messages": ASKED,
        "tools": [
            WEATHER,
            {
                "type": "custom",
                "custom": {**custom, "format": {"type": "grammar", "grammar": regex}},
            },
        ],
        "tool_choice": {"type": "custom", "custom": {"name": "shell"}},
        "max_tokens": 64,
        "temperature": 0,
    }
    (whole,) = gpt.chat.completions.create(**asked).choices
    assert whole.finish_reason == "tool_calls"
    (call,) = whole.message.tool_calls or []
    assert call.type == "custom"
    assert re.fullmatch(regex["definition"], call.custom.input)
    chunks: Any = gpt.chat.completions.create(**asked, stream=True)
    parts = [part for c in chunks for part in c.choices[0].delta.tool_calls or []]
    assert parts[0].custom["name"] == "shell"
    assert "".join(part.custom["input"] for part in parts) == call.custom.input
    response: dict[str, Any] = {
        "model": "mistral",
        "input": "Weather in Oslo?",
        "tools": [{"type": "custom", **custom, "format": {"type": "grammar", **regex}}],
        "tool_choice": "required",
        "max_output_tokens": 64,
        "temperature": 0,
    }
    (item,) = gpt.responses.create(**response).output
    assert item.type == "custom_tool_call"
    assert re.fullmatch(regex["definition"], item.input)
    events: Any = list(gpt.responses.create(**response, stream=True))
    grown = [e.delta for e in events if e.type == "response.custom_tool_call_input.delta"]
    assert "".join(grown) == item.input
    output = {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "a"}
    turns: Any = [item.model_dump(exclude_none=True), output]
    after = gpt.responses.create(model="mistral", input=turns, max_output_tokens=2)
    assert after.usage is not None
    assert after.usage.output_tokens <= 2


def test_none_and_ollama(url: str, gpt: openai.OpenAI) -> None:
    """A tool that may not be called is not even shown; Ollama's client gets a parsed answer."""
    few: dict[str, Any] = {"model": "qwen", "messages": ASKED, "max_tokens": 2, "temperature": 0}
    without: Any = gpt.chat.completions.create(**few)
    none: Any = gpt.chat.completions.create(**few, tools=[WEATHER], tool_choice="none")
    assert none.usage.prompt_tokens == without.usage.prompt_tokens
    client = ollama.Client(url)
    told = client.chat(
        "qwen",
        ASKED,
        tools=[dict(WEATHER)],
        format={
            "type": "object",
            "properties": {"name": {"const": "weather"}, "arguments": SCHEMA},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        },
        options={"temperature": 0, "num_predict": 64},
    )
    client._client.close()
    (call,) = told.message.tool_calls or []
    assert fits(call.function.name, call.function.arguments)


def test_templates_that_refuse_what_agents_send(claude: anthropic.Anthropic) -> None:
    """A system text and two calls at once, which Claude Code sends, get an answer all the same."""
    uses: list[Any] = [
        {"type": "tool_use", "id": f"toolu_{n}", "name": "now", "input": {}} for n in "12"
    ]
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": f"toolu_{n}", "content": n} for n in "12"
    ]
    answer = claude.messages.create(
        model="strict",
        system="Be brief.",
        messages=[
            {"role": "user", "content": "Now?"},
            {"role": "assistant", "content": uses},
            {"role": "user", "content": results},
        ],
        tools=[{"name": "now", "input_schema": {"type": "object"}}],
        max_tokens=2,
    )
    assert answer.usage.output_tokens <= 2
