"""A client that leaves amid its answer frees the slot, in every dialect, streamed or not."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.bench.connections import PIECE

from .conftest import create

pytestmark = pytest.mark.slow
LIMIT_S = 60
ENDLESS = 100_000  # tokens: nobody waits for so many
STORY = "One, two, three, four, five, six, seven,"
TURNS = [{"role": "user", "content": STORY}]
DIALECTS: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": TURNS},
    "/api/generate": {"prompt": STORY},
    "/v1/chat/completions": {"messages": TURNS},
    "/v1/completions": {"prompt": STORY},
    "/v1/responses": {"input": STORY},
    "/v1/messages": {"messages": TURNS, "max_tokens": ENDLESS},
}


@pytest.fixture(scope="module")
def endless(start_module_daemon: Callable[..., Any], smollm2_gguf: Path) -> Any:
    """A daemon with one slot, and a model that never ends by itself."""
    daemon = start_module_daemon(QM_NUM_PARALLEL="1", QM_CONTEXT_LENGTH="512")
    parameters = {"ignore_eos": True, "num_predict": ENDLESS, "temperature": 0}
    create(daemon, "smol", smollm2_gguf, parameters=parameters)
    return daemon


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", DIALECTS)
def test_who_leaves_frees_the_slot(endless: Any, path: str, stream: bool) -> None:
    """The runner ends that answer, with few tokens, and the log says so; the slot is free.

    Before the first piece of an answer the runner may not know of it, and has nothing to end.
    """
    status = endless.json("GET", "/qm/status")
    log, known = Path(status["log"]), len(abandoned(Path(status["log"])))
    body = json.dumps({"model": "smol", "stream": stream, **DIALECTS[path]}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    host, port = status["host"].split(":")
    with closing(socket.create_connection((host, int(port)), LIMIT_S)) as client:
        client.sendall(head.encode() + body)
        eventually(lambda: users(endless) == 1)
        if stream:
            with client.makefile("rb") as lines:
                assert any(PIECE.search(line) for line in lines)
    eventually(lambda: users(endless) == 0)
    if stream:
        eventually(lambda: len(abandoned(log)) > known)
        assert abandoned(log)[-1] < ENDLESS // 10


def abandoned(log: Path) -> list[int]:
    return [int(n) for n in re.findall(r"event=answer_abandoned .*tokens=(\d+)", log.read_text())]


def users(daemon: Any) -> int:
    return sum(row["qm"]["users"] for row in daemon.json("GET", "/api/ps")["models"])


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
