"""qm and llama-server as a benchmark sees them: started alike, asked alike, by HTTP streams."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

READY_LIMIT_S = 120.0
_LAST_CHUNK = b"0\r\n"
_PROMPT = rb'"prompt_eval_duration":(\d+)'
_processes: set[subprocess.Popen[bytes]] = set()
ANSWER_LIMIT_S = 120.0  # an answer that takes longer is cut; its figures are bounds then


@dataclass(slots=True)
class Answer:
    """When its request was sent, when its pieces came and when it was over; by one clock."""

    sent_s: float
    came_s: list[float] = field(default_factory=list)
    over_s: float = 0.0
    tokens: int = 0
    cut: bool = False
    prompt_s: float = 0.0  # what the runner says that its part of the first token took

    @property
    def first_s(self) -> float:
        return (self.came_s[0] if self.came_s else self.over_s) - self.sent_s

    @property
    def token_s(self) -> float:
        """The time of one token, after the first."""
        return (self.over_s - self.sent_s - self.first_s) / max(self.tokens - 1, 1)

    @property
    def gaps_s(self) -> list[float]:
        return [after - before for before, after in zip(self.came_s, self.came_s[1:], strict=False)]


class Answers(Protocol):
    """Whatever can be asked for a greedy answer of `n` tokens."""

    def answer(self, prompt: str, n: int, model: str = "", **more: Any) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Server:
    """Answers on a port; subclasses know how it wants to be asked, and how it answers."""

    port: int
    models: tuple[str, ...] = ("",)

    def body(self, prompt: str, n: int, model: str, **more: Any) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError

    def is_piece(self, line: bytes) -> bool:
        """Whether a line of the stream has a token."""
        raise NotImplementedError

    def count(self, line: bytes) -> int:
        """How many tokens the answer had, where `line` tells that; else 0."""
        raise NotImplementedError

    def lines(self, prompt: str, n: int, model: str = "", **more: Any) -> Iterator[bytes]:
        """What comes back, line by line: a client that costs as little as possible.

        Ends early when nothing comes for too long.
        """
        path, body = self.body(prompt, n, model or self.models[0], **more)
        with socket.create_connection(("127.0.0.1", self.port), ANSWER_LIMIT_S) as connection:
            connection.sendall(_post(path, json.dumps(body).encode()))
            with connection.makefile("rb") as stream, suppress(TimeoutError):
                if b" 200 " not in (status := stream.readline()):
                    raise SystemExit(f"{path}: {status!r} {stream.read()!r}")
                yield from stream

    def answer(self, prompt: str, n: int, model: str = "", **more: Any) -> Answer:
        answer = Answer(time.perf_counter())
        limit_s = answer.sent_s + ANSWER_LIMIT_S
        with closing(self.lines(prompt, n, model, **more)) as lines:  # type: ignore[type-var]
            for line in lines:
                answer.over_s = time.perf_counter()
                if self.is_piece(line):
                    answer.came_s.append(answer.over_s)
                elif found := self.count(line):
                    answer.tokens = found
                    answer.prompt_s = find_number(_PROMPT, line) / 1e9
                    return answer
                if answer.over_s > limit_s:
                    break
        answer.over_s, answer.tokens, answer.cut = time.perf_counter(), len(answer.came_s), True
        return answer


class Qm(Server):
    """A daemon of its own, with the models under their short names."""

    def body(self, prompt: str, n: int, model: str, **more: Any) -> tuple[str, dict[str, Any]]:
        options = {"num_predict": n, "temperature": 0, "ignore_eos": "format" not in more}
        asked = {"model": model, "prompt": prompt, "raw": True, "options": options, **more}
        return "/api/generate", asked

    def is_piece(self, line: bytes) -> bool:
        return b'"done":false' in line

    def count(self, line: bytes) -> int:
        return find_number(rb'"eval_count":(\d+)', line)


@dataclass(frozen=True, slots=True)
class KeptQm(Qm):
    """The same over one connection that stays open, as clients' libraries keep it."""

    connection: socket.socket = field(kw_only=True)

    def lines(self, prompt: str, n: int, model: str = "", **more: Any) -> Iterator[bytes]:
        path, body = self.body(prompt, n, model or self.models[0], **more)
        self.connection.sendall(_post(path, json.dumps(body).encode(), "keep-alive"))
        with self.connection.makefile("rb") as stream:
            if b" 200 " not in (line := stream.readline()):
                raise SystemExit(f"{path}: {line!r}")
            try:
                while (line := stream.readline()) not in (_LAST_CHUNK, b""):
                    yield line
            finally:
                while line not in (_LAST_CHUNK, b""):
                    line = stream.readline()
                stream.readline()


class LlamaServer(Server):
    """One model, or a router over a directory of them."""

    def body(self, prompt: str, n: int, model: str, **more: Any) -> tuple[str, dict[str, Any]]:
        asked = {"prompt": prompt, "n_predict": n, "temperature": 0, "stream": True, **more}
        asked["ignore_eos"] = "json_schema" not in more
        return "/completion", asked | ({"model": model} if model else {})

    def is_piece(self, line: bytes) -> bool:
        return line.startswith(b"data: {") and b'"stop":true' not in line

    def count(self, line: bytes) -> int:
        return find_number(rb'"stop":true.*"tokens_predicted":(\d+)', line)


@contextmanager
def qm(models: dict[str, Path], **settings: str) -> Iterator[Qm]:
    """A daemon in a temporary home with `models`, every one of them created, none loaded."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="qm-", dir="/tmp") as home:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
        env = kept | {
            "QM_HOME": home,
            "QM_SOCKET": f"{home}/qm.sock",
            "QM_HOST": f"127.0.0.1:{port}",
            "QM_KEEP_ALIVE": "-1",
            **settings,
        }
        with _running([sys.executable, "-m", "qm.daemon"], port, env):
            for name, path in models.items():
                modelfile = Path(home) / "Modelfile"
                modelfile.write_text(f"FROM {path}\n")
                program = Path(sys.executable).with_name("qm")
                command = [str(program), "create", name, "-f", str(modelfile)]
                subprocess.run(command, env=env, check=True, capture_output=True)
            yield Qm(port, tuple(models))


@contextmanager
def llama_server(program: Path, *arguments: str) -> Iterator[LlamaServer]:
    """llama-server with these arguments, ready to answer."""
    port = _free_port()
    command = [str(program), "--port", str(port), "--no-webui", *arguments]
    with _running(command, port, dict(os.environ)):
        yield LlamaServer(port)


@contextmanager
def _running(command: list[str], port: int, env: dict[str, str]) -> Iterator[None]:
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as process,
    ):
        _processes.add(process)
        try:
            _wait_until_healthy(process, port)
            yield
        finally:
            _processes.discard(process)
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def end_all() -> None:
    """Ends all servers at once, and with them the threads that wait for their answers."""
    for process in _processes:
        process.terminate()


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # not up yet
        finally:
            connection.close()
        time.sleep(0.005)
    raise SystemExit(f"{process.args!r} did not come up")


def _post(path: str, body: bytes, connection: str = "close") -> bytes:
    head = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Connection: {connection}",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def find_number(pattern: bytes, line: bytes) -> int:
    found = re.search(pattern, line)
    return int(found[1]) if found else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
