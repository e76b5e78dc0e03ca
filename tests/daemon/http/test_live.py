"""A real daemon with the real model, asked as clients ask."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.modelfiles.build.tiny_llama import write_tiny_llama

from .conftest import create

pytestmark = pytest.mark.slow
LONG = "The quick brown fox jumps over the lazy dog. " * 60
STORY = {"model": "smol", "prompt": "Tell me a very long story.", "options": {"num_predict": 2000}}
N_UNREAD, BUFFERED_BYTES = 350, 350_000  # tokens; by the kernel and by us at most
GREEDY = {"temperature": 0, "num_predict": 8}


@pytest.fixture(scope="module")
def small(start_module_daemon: Callable[..., Any], smollm2_gguf: Path) -> Any:
    """A daemon that gives its models 256 tokens of context."""
    daemon = start_module_daemon(QM_CONTEXT_LENGTH="256", QM_NUM_PARALLEL="1")
    _, lines = daemon.call("POST", "/qm/adopt", {"path": str(smollm2_gguf)})
    digest = json.loads(lines.splitlines()[-1])["digest"]
    files = {"model": "smol", "files": {"a.gguf": digest}, "stream": False}
    daemon.json("POST", "/api/create", files)
    return daemon


@contextlib.contextmanager
def streaming(daemon: Any, path: str, document: object) -> Iterator[http.client.HTTPResponse]:
    """A stream that is being read over TCP."""
    connection = http.client.HTTPConnection(address(daemon), timeout=60)
    connection.request("POST", path, json.dumps(document))
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def address(daemon: Any) -> str:
    return str(daemon.json("GET", "/qm/status")["host"])


def eventually(holds: Callable[[], bool], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def test_an_empty_store_lists_no_models(start_daemon: Callable[..., Any]) -> None:
    assert start_daemon().json("GET", "/api/tags") == {"models": []}


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_longer_than_the_context_is_refused_with_both_counts(
    small: Any, stream: bool
) -> None:
    """400 before the first byte, whether streaming or not; nothing is cut silently."""
    turn = {"role": "user", "content": LONG}
    for path, asked in (("/api/generate", {"prompt": LONG}), ("/api/chat", {"messages": [turn]})):
        status, body = small.call("POST", path, {"model": "smol", "stream": stream, **asked})
        assert status == 400
        error = json.loads(body)["error"]
        assert "context of 256 tokens" in error
        assert "has 6" in error, error


def test_cut_when_asked(small: Any) -> None:
    """`truncate` drops the oldest turns first, and keeps the system text and the last turn."""
    turns = [
        {"role": "system", "content": "You are a helper."},
        {"role": "user", "content": LONG[:900]},
        {"role": "assistant", "content": LONG[:900]},
        {"role": "user", "content": "Hi!"},
    ]
    asked = {"model": "smol", "stream": False, "truncate": True, "options": GREEDY}
    answer = small.json("POST", "/api/chat", {**asked, "messages": turns})
    assert answer["prompt_eval_count"] < 40
    answer = small.json("POST", "/api/chat", {**asked, "messages": [turns[1] | {"content": LONG}]})
    assert 40 < answer["prompt_eval_count"] <= 256
    answer = small.json("POST", "/api/generate", {**asked, "prompt": LONG})
    assert 40 < answer["prompt_eval_count"] <= 256


def test_a_killed_runner_says_so_in_the_stream(small: Any) -> None:
    """The last line is an error, the daemon lives, and the next request loads the model anew."""
    with streaming(small, "/api/generate", STORY) as response:
        assert json.loads(response.readline())["response"]
        (row,) = small.json("GET", "/api/ps")["models"]
        os.kill(row["qm"]["pid"], signal.SIGKILL)
        last = json.loads(response.read().splitlines()[-1])
    assert "SIGKILL" in last["error"]
    asked = {"model": "smol", "prompt": "Hi", "stream": False, "options": GREEDY}
    assert small.json("POST", "/api/generate", asked)["done"] is True


def test_hanging_up_frees_the_slot(small: Any) -> None:
    """The only slot of this daemon is free again once its client is gone, streaming or not."""
    for stream in (True, False):
        host, port = address(small).split(":")
        body = json.dumps({**STORY, "stream": stream}).encode()
        head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        with socket.create_connection((host, int(port))) as client:
            client.sendall(head.encode() + b"\r\n\r\n" + body)
            eventually(lambda: users(small) == 1)
        eventually(lambda: users(small) == 0)


def users(daemon: Any) -> int:
    return sum(row["qm"]["users"] for row in daemon.json("GET", "/api/ps")["models"])


def test_who_never_reads_holds_no_slot_once_the_runner_is_done(small: Any, tmp_path: Path) -> None:
    """The next one has it at once; what is unread comes whole, even after the model is gone."""
    tiny = tmp_path / "tiny.gguf"
    write_tiny_llama(tiny)
    create(small, "tiny", tiny)
    options = {"temperature": 0, "num_predict": N_UNREAD, "ignore_eos": True}
    asked = {"model": "tiny", "prompt": "a", "raw": True, "options": options}
    body = json.dumps(asked | {"logprobs": True, "top_logprobs": 20}).encode()
    head = "POST /api/generate HTTP/1.0\r\nHost: localhost\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(small.socket))
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert client.recv(1, socket.MSG_PEEK)
        second = asked | {"stream": False, "options": options | {"num_predict": 2}}
        assert small.json("POST", "/api/generate", second)["eval_count"] == 2
        assert small.qm("rm", "tiny").returncode == 0
        with client.makefile("rb") as unread:
            answer = unread.read()
    assert len(answer) > BUFFERED_BYTES
    assert json.loads(answer.splitlines()[-1])["eval_count"] == N_UNREAD


def test_loading_and_unloading_by_empty_prompts(small: Any) -> None:
    """After `unload` the process is gone, not only on its way."""
    assert small.json("POST", "/api/generate", {"model": "smol"})["done_reason"] == "load"
    (row,) = small.json("GET", "/api/ps")["models"]
    unload = {"model": "smol", "messages": [], "keep_alive": 0}
    assert small.json("POST", "/api/chat", unload)["done_reason"] == "unload"
    assert small.json("GET", "/api/ps") == {"models": []}
    assert not Path(f"/proc/{row['qm']['pid']}").exists()


def test_files_are_adopted_over_the_socket_only(small: Any) -> None:
    with streaming(small, "/qm/adopt", {"path": "/etc/passwd"}) as response:
        assert response.status == 403
    for path in ("/etc/passwd", "/dev/random", "/nowhere", "/tmp"):
        status, body = small.call("POST", "/qm/adopt", {"path": path})
        assert status == 400
        error = json.loads(body)["error"]
        assert error.startswith(f"no readable GGUF or safetensors file at {path!r}: ")


def test_names_never_leave_the_store(small: Any) -> None:
    for name in ("../a", "a/../../b", "x/y/z/w", ";touch x", "$(id)", "a\nb", "--rpc=h"):
        for method, path in (("DELETE", "/api/delete"), ("POST", "/api/show")):
            assert small.call(method, path, {"model": name})[0] == 400, (name, path)
    for digest in ("sha256:../../etc/x", f"sha256:{'a' * 64}%0a", "%2e%2e", f"sha256:{'A' * 64}"):
        assert small.call("POST", f"/api/blobs/{digest}", {})[0] in (400, 404), digest


def test_unused_blobs_go_with_the_model(small: Any) -> None:
    """`rm` tells what it freed; what other models need stays."""
    system = "You are new here."
    variant = {"model": "gone", "from": "smol", "system": system, "stream": False}
    small.json("POST", "/api/create", variant)
    freed = small.json("POST", "/qm/rm", {"model": "gone"})["freed_bytes"]
    assert len(system) <= freed < 10_000
    status, body = small.call("POST", "/qm/rm", {"model": "gone"})
    assert (status, json.loads(body)) == (404, {"error": "model 'gone' not found"})


def test_an_upload_with_a_wrong_digest_keeps_nothing(small: Any) -> None:
    before = small.json("GET", "/qm/df")["blobs"]
    assert small.call("POST", f"/api/blobs/sha256:{'0' * 64}", {"x": 1})[0] == 400
    assert small.json("GET", "/qm/df")["blobs"] == before


def test_the_official_client(small: Any) -> None:
    """list, show, chat (stream and not), generate, copy, delete: all through `ollama`."""
    client = ollama.Client(host=f"http://{address(small)}")
    assert [model.model for model in client.list().models] == ["smol:latest"]
    shown = client.show("smol")
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 256, "what the model really gets"
    turns = [{"role": "user", "content": "Hi"}]
    whole = client.chat("smol", turns, options=GREEDY)
    pieces = list(client.chat("smol", turns, stream=True, options=GREEDY))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content != ""
    assert (pieces[-1].done, pieces[-1].eval_count) == (True, 8)
    assert client.generate("smol", "Hi", options=GREEDY).response
    client.copy("smol", "smolcopy")
    client.delete("smolcopy")
    with pytest.raises(ollama.ResponseError, match="'smolcopy' not found") as caught:
        client.delete("smolcopy")
    assert caught.value.status_code == 404
    client._client.close()


async def test_many_clients_at_once(small: Any) -> None:
    """More than there are slots: all are answered, and alike."""
    client = ollama.AsyncClient(host=f"http://{address(small)}")
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(client.generate("smol", "Hi", options=GREEDY)) for _ in range(4)]
    assert len({task.result().response for task in asked}) == 1
    await client._client.aclose()
