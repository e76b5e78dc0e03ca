"""Published templates with wishes of their own, rendered by Jinja as the daemon's worker does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from qm.daemon.chat.conversation import template_context
from qm.daemon.chat.render import Renderer
from qm.daemon.chat.request import Message, Request, ToolCall
from qm.daemon.chat.telling import as_wanted, short_id
from qm.modelfiles.template import Syntax

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "ä", "parameters": {"type": "object"}},
}
TURNS = (
    Message("user", "Oslo?"),
    Message("assistant", tool_calls=(ToolCall("weather", {"city": "Ås"}, "call_1"),)),
    Message("tool", "rain", tool_name="weather", tool_call_id="call_1"),
)
# The parts of each that matter here, as their makers wrote them.
MISTRAL = """{%- for message in messages %}{%- if message.tool_calls is defined %}
{%- for tool_call in message.tool_calls %}{%- set out = tool_call.function|tojson %}{{- out[:-1] }}
{%- if not tool_call.id is defined or tool_call.id|length != 9 %}
{{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}{%- endif %}
{{- ', "id": "' + tool_call.id + '"}' }}{%- endfor %}
{%- elif message["role"] == "tool" %}
{%- if not message.tool_call_id is defined or message.tool_call_id|length != 9 %}
{{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}{%- endif %}
{{- '|"' + message.tool_call_id + '"' }}{%- endif %}{%- endfor %}"""
DEEPSEEK = (
    "{%- for message in messages %}{%- for tool in message['tool_calls'] %}"
    "{{'<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n'"
    " + '```json' + '\\n' + tool['function']['arguments'] + '\\n' + '```'}}{%- endfor %}"
    "{%- endfor %}"
)
QWEN = (
    "{%- for message in messages %}{%- for tool_call in message.tool_calls %}"
    "{{- tool_call.function.arguments | tojson }}{%- endfor %}{%- endfor %}"
)
QWEN_3 = (
    "{%- for message in messages %}{%- for tool_call in message.tool_calls %}"
    "{%- if tool_call.function.arguments is string %}{{- tool_call.function.arguments }}"
    "{%- else %}{{- tool_call.function.arguments | tojson }}{%- endif %}{%- endfor %}{%- endfor %}"
)
PHI = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and "
    "message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + "
    "'<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% endif %}{% endfor %}"
)
SWITCHED = "{% if thinking %}thinks{% else %}answers{% endif %}"


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    renderer = Renderer()
    yield renderer
    await renderer.close()


async def rendered(
    renderer: Renderer, template: str, *turns: Message, **fields: Any
) -> str:  # Any: of a request
    request = Request("m", messages=turns or TURNS, tools=(TOOL,), **fields)
    context = template_context(request, turns or TURNS, bos="", eos="")
    return await renderer.render(template, Syntax.JINJA, as_wanted(context, template))


async def test_mistral_gets_ids_of_nine_characters(renderer: Renderer) -> None:
    """The call's and its result's stay the same; one that fits is kept."""
    call, told = (await rendered(renderer, MISTRAL)).split("|")
    assert json.loads(call)["id"] == json.loads(told) == short_id("call_1")
    assert len(short_id("call_1")) == 9
    assert short_id("a1b2c3d4e") == "a1b2c3d4e"


async def test_deepseek_gets_arguments_as_text(renderer: Renderer) -> None:
    assert await rendered(renderer, DEEPSEEK) == (
        '<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city": "Ås"}\n```'
    )


@pytest.mark.parametrize("template", [QWEN, QWEN_3])
async def test_who_writes_json_itself_gets_objects(renderer: Renderer, template: str) -> None:
    assert json.loads(await rendered(renderer, template)) == {"city": "Ås"}


async def test_phi_gets_its_tools_in_the_system_turn(renderer: Renderer) -> None:
    """There is one for them where the conversation has none."""
    tools = json.dumps([TOOL["function"]], ensure_ascii=False)
    assert await rendered(renderer, PHI) == f"<|system|><|tool|>{tools}<|/tool|><|end|>"
    told = await rendered(renderer, PHI, Message("system", "Be brief."), Message("user", "Hi"))
    assert told == f"<|system|>Be brief.<|tool|>{tools}<|/tool|><|end|>"


@pytest.mark.parametrize(
    ("think", "said"), [(None, "thinks"), (True, "thinks"), (False, "answers")]
)
async def test_thinking_is_switched_by_its_other_name(
    renderer: Renderer, think: bool | None, said: str
) -> None:
    assert await rendered(renderer, SWITCHED, think=think) == said
