"""Clients from the Python registry, each in a process of its own, against a live daemon.

They bring their own warnings, caches and threads, so they don't share the tests' process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
LIMIT_S = 120


def run(daemon: Any, home: Path, *arguments: str) -> str:
    host = daemon.json("GET", "/qm/status")["host"]
    own = {
        "HOME": str(home),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # don't fetch a list of prices
        "LLM_USER_PATH": str(home),
        "OLLAMA_HOST": f"http://{host}",
    }
    done = subprocess.run(
        [sys.executable, *(part.replace("URL", f"http://{host}") for part in arguments)],
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_langchain(live_daemon: Any, tmp_path: Path) -> None:
    run(live_daemon, tmp_path, str(HERE / "ask_langchain.py"), "URL")


def test_litellm(live_daemon: Any, tmp_path: Path) -> None:
    run(live_daemon, tmp_path, str(HERE / "ask_litellm.py"), "URL")


def test_llm_with_its_plugin(live_daemon: Any, tmp_path: Path) -> None:
    """`llm` finds the model through llm-ollama, and prints what it answers."""
    options = ("-o", "temperature", "0", "-o", "num_predict", "8", "--no-stream")
    listed = run(live_daemon, tmp_path, "-m", "llm", "ollama", "models")
    assert "smollm2:latest" in listed
    asked = ("-m", "llm", "-m", "smollm2:latest", "Say hello.")
    assert run(live_daemon, tmp_path, *asked, *options).strip()
