"""qm and llama-server as a benchmark sees them: started alike, asked alike, by HTTP streams."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_LIMIT_S = 120.0
ANSWER_LIMIT_S = 600.0


@dataclass(slots=True)
class Answer:
    """When its request was sent and each of its pieces came; all by one clock."""

    sent_s: float
    came_s: list[float] = field(default_factory=list)

    @property
    def first_s(self) -> float:
        return self.came_s[0] - self.sent_s

    @property
    def total_s(self) -> float:
        return self.came_s[-1] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        return [after - before for before, after in zip(self.came_s, self.came_s[1:], strict=False)]


@dataclass(frozen=True, slots=True)
class Server:
    """Answers on a port; subclasses know how it wants to be asked."""

    port: int
    models: tuple[str, ...] = ("",)

    def body(self, prompt: str, n: int, model: str, **more: Any) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError

    def is_piece(self, line: bytes) -> bool:
        """Whether a line of the stream has a token."""
        raise NotImplementedError

    def ask(self, prompt: str, n: int, model: str | None = None, **more: Any) -> Iterator[float]:
        """The times at which the pieces of a greedy answer of `n` tokens come."""
        path, body = self.body(prompt, n, model or self.models[0], **more)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_LIMIT_S)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise SystemExit(f"{path}: {response.status} {response.read()!r}")
            for line in response:
                if self.is_piece(line):
                    yield time.perf_counter()
        finally:
            connection.close()

    def answer(self, prompt: str, n: int, model: str | None = None, **more: Any) -> Answer:
        answer = Answer(time.perf_counter())
        answer.came_s.extend(self.ask(prompt, n, model, **more))
        return answer


class Qm(Server):
    """A daemon of its own, with the models under their short names."""

    def body(self, prompt: str, n: int, model: str, **more: Any) -> tuple[str, dict[str, Any]]:
        options = {"num_predict": n, "temperature": 0, "ignore_eos": "format" not in more}
        asked = {"model": model, "prompt": prompt, "raw": True, "options": options, **more}
        return "/api/generate", asked

    def is_piece(self, line: bytes) -> bool:
        return b'"done":false' in line


class LlamaServer(Server):
    """One model, or a router over a directory of them."""

    def body(self, prompt: str, n: int, model: str, **more: Any) -> tuple[str, dict[str, Any]]:
        asked = {"prompt": prompt, "temperature": 0, "ignore_eos": True, "stream": True, **more}
        if model:
            return "/v1/completions", asked | {"max_tokens": n, "model": model}
        return "/completion", asked | {"n_predict": n}

    def is_piece(self, line: bytes) -> bool:
        return line.startswith(b"data: {") and b'"stop":true' not in line


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
        try:
            _wait_until_healthy(process, port)
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


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
        time.sleep(0.01)
    raise SystemExit(f"{process.args!r} did not come up")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
