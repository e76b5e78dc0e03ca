"""Templates render as their authors expect, and hostile ones only hurt their own request."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from qm.daemon.chat.render import Renderer, TemplateFailed
from qm.store.gguf import read_header

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'"
    " + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MESSAGES = [{"role": "user", "content": "Grüße <b> & 'x' 😀"}]


@pytest_asyncio.fixture
async def renderer() -> AsyncIterator[Renderer]:
    made = Renderer()
    yield made
    await made.close()


async def render(renderer: Renderer, template: str, **context: Any) -> str:
    return await renderer.render(template, "jinja", {"messages": MESSAGES} | context)


async def test_a_chat_becomes_a_prompt(renderer: Renderer) -> None:
    """Text arrives as it is: nothing is escaped for HTML."""
    expected = "<|im_start|>user\nGrüße <b> & 'x' 😀<|im_end|>\n<|im_start|>assistant\n"
    assert await render(renderer, CHATML, add_generation_prompt=True) == expected


async def test_the_models_own_template(renderer: Renderer, smollm2_gguf: Path) -> None:
    """SmolLM2's, which adds its default system message."""
    template = read_header(smollm2_gguf).chat_template
    assert template
    prompt = await render(renderer, template, add_generation_prompt=True)
    assert prompt.startswith("<|im_start|>system\n")
    assert prompt.endswith("😀<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ messages | tojson }}", '[{"role": "user", "content": "Grüße <b> & \'x\' 😀"}]'),
        ("{{ tools | tojson(indent=2) }}", '[\n  {\n    "b": 1,\n    "a": 2\n  }\n]'),
        ("{% for n in [1, 2, 3] %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}", "1"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        ("{% generation %}said{% endgeneration %}", "said"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}{{ 3 * 'ab' }}", "2ababab"),
        ("{{ undefined_name is defined }}", "False"),
    ],
)
async def test_what_templates_rely_on(renderer: Renderer, template: str, expected: str) -> None:
    """Filters, loop controls, whitespace and globals as transformers has them."""
    assert await render(renderer, template, tools=[{"b": 1, "a": 2}]) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ 'a' * 10**10 }}",
        "{{ [1] * 10**9 }}",
        "{{ 9 ** (10 ** 9) }}",
        "{{ range(10**9) | list }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ '{:>9999999999}'.format(1) }}",
        "{% set ns = namespace(s='a' * 99999) %}{% for i in range(40) %}"
        "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include '/etc/passwd' %}",
        "{% if %}",
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    ],
)
async def test_hostile_templates_fail_alone(renderer: Renderer, template: str) -> None:
    """400 with a reason; the next request renders."""
    with pytest.raises(TemplateFailed, match="template"):
        await render(renderer, template)
    assert await render(renderer, "{{ messages[0].role }}") == "user"


@pytest.mark.parametrize(
    "expression",
    [
        "messages | attr('__class__')",
        "().__class__",
        "'{0.__class__}'.format(messages)",
        "raise_exception.__globals__",
        "messages | map(attribute='__class__') | join",
    ],
)
async def test_ways_around_the_sandbox_lead_nowhere(renderer: Renderer, expression: str) -> None:
    """Filters, format strings and functions show nothing of Python either."""
    assert await render(renderer, "{{ " + expression + " }}") == ""


async def test_endless_loops_are_killed(renderer: Renderer) -> None:
    """Within the wall limit, and with another worker for who comes next."""
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    assert await render(renderer, "x") == "x"
    before = renderer.pid
    with pytest.raises(TemplateFailed, match="longer than"):
        await renderer.render(loops, "jinja", {}, limit_s=0.3)
    assert await render(renderer, "x") == "x"
    assert renderer.pid != before


async def test_too_much_output_is_refused(renderer: Renderer) -> None:
    """The cap counts while it renders."""
    with pytest.raises(TemplateFailed, match="output is longer than 1000"):
        await renderer.render(
            "{% for i in range(1000) %}0123456789{% endfor %}", "jinja", {}, limit_characters=1000
        )


async def test_a_template_may_refuse_in_its_own_words(renderer: Renderer) -> None:
    """`raise_exception` reaches the user."""
    with pytest.raises(TemplateFailed, match="roles must alternate"):
        await render(renderer, "{{ raise_exception('roles must alternate') }}")


async def test_templates_see_whitelisted_names_only(renderer: Renderer) -> None:
    """What a client smuggles into the context stays outside."""
    text = await render(renderer, "{{ tokenize }}|{{ bos_token }}", tokenize=True, bos_token="<s>")
    assert text == "|<s>"


async def test_go_templates_are_rendered(renderer: Renderer) -> None:
    """Ollama's syntax is interpreted in the same worker, under the same limits."""
    turns = [{"role": "user", "content": "hi"}]
    template = "{{ range .Messages }}[{{ .Role }}]{{ .Content }}{{ end }}"
    assert await renderer.render(template, "go", {"messages": turns}) == "[user]hi"


@pytest.mark.parametrize(
    "template",
    [
        "{{ range 999999999 }}{{ range 999999999 }}{{ end }}{{ end }}",
        "{{ range 999999999 }}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{ end }}",
        '{{ define "t" }}{{ template "t" }}{{ end }}{{ template "t" }}',
        "{{ .Prompt.Missing }}",
    ],
)
async def test_hostile_go_templates_end(renderer: Renderer, template: str) -> None:
    """Loops, floods, recursion and wrong fields are errors; the renderer goes on."""
    with pytest.raises(TemplateFailed):
        await renderer.render(
            "{{ .Prompt }}" + template, "go", {}, limit_s=1, limit_characters=10_000_000
        )
    assert await render(renderer, "x") == "x"


async def test_a_killed_worker_is_replaced(renderer: Renderer) -> None:
    """The OOM killer, say, between two requests."""
    await render(renderer, "x")
    assert renderer.pid is not None
    os.kill(renderer.pid, signal.SIGKILL)
    answers = [await asyncio.gather(render(renderer, "x"), return_exceptions=True) for _ in "12"]
    assert list(answers[1]) == ["x"]


async def test_cancelling_leaves_no_stale_answer(renderer: Renderer) -> None:
    """The next render gets its own text, not the one that was given up."""
    loops = "{% for a in range(99999) %}{% for b in range(99) %}{% endfor %}{% endfor %}old"
    assert await render(renderer, "x") == "x"
    task = asyncio.create_task(render(renderer, loops))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await render(renderer, "new") == "new"
