"""A daemon that holds the models of the golden transcripts, in Jinja instead of Go syntax."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
# Jinja drops a newline at the very end of a template, so the last one is an expression.
CHATML = TURNS + "<|im_start|>assistant{{ '\n' }}"
STOPS = {"stop": ["<|im_start|>", "<|im_end|>"]}
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.thinking %}<think>{{ m.thinking }}</think>{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}"
)
TOOLS = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}" + CHATML
)
FIM = "{% if suffix %}<PRE>{{ prompt }}<SUF>{{ suffix }}<MID>{% else %}{{ prompt }}{% endif %}"

VARIANTS: dict[str, dict[str, Any]] = {
    "smolsys": {
        "system": "You are a pirate.",
        "license": ["MIT text", "second"],
        "parameters": {"temperature": 0, "num_predict": 5, "seed": 1, "stop": ["\n\n", "END"]},
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Arr"}],
    },
    "smolfim": {"template": FIM},
    # One recorded request sets no limit: sampled, the small model may go on for minutes.
    "smoltools": {"template": TOOLS, "parameters": {"num_predict": 32}},
    "smolthink": {"template": THINKING},
    "smolreq": {"requires": "99.0.0"},
    "smol:local": {},
}


@pytest.fixture(scope="module")
def golden_daemon(
    start_module_daemon: Callable[..., Any], smollm2_gguf: Path, minilm_gguf: Path
) -> Any:
    """The recorded server's models, as far as the real models can stand in for them."""
    daemon = start_module_daemon()
    create(daemon, "smol", smollm2_gguf, template=CHATML, parameters=STOPS)
    create(daemon, "minilm", minilm_gguf)
    for name, fields in VARIANTS.items():
        daemon.json(
            "POST", "/api/create", {"model": name, "from": "smol", "stream": False, **fields}
        )
    return daemon


def create(daemon: Any, name: str, gguf: Path, **fields: Any) -> None:
    """Makes a model of one file."""
    status, lines = daemon.call("POST", "/qm/adopt", {"path": str(gguf)})
    assert status == 200, lines
    files = {gguf.name: f"sha256:{digest_of(lines)}"}
    daemon.json("POST", "/api/create", {"model": name, "files": files, "stream": False, **fields})


def digest_of(lines: bytes) -> str:
    """The hex digest in the last line of an adoption."""
    return lines.rsplit(b'"digest":"sha256:', 1)[1][:64].decode()
