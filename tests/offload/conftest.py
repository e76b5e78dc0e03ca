"""Real devices without a GPU: llama.cpp's RPC servers on loopback count as GPUs, and so does the
Vulkan device of Mesa's, which computes on the CPU.

Each needs a llama-cpp-python that was built for it: `make test-offload` builds them, puts one on
the path, and says in QM_TEST_OFFLOAD which.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

BUILD = os.environ.get("QM_TEST_OFFLOAD", "")
OF_BUILD = {
    "rpc": ["test_vulkan.py"],
    "vulkan": ["test_rpc.py", "test_experts.py", "test_memory_limit.py"],
}
collect_ignore_glob = OF_BUILD.get(BUILD, ["test_*.py"])

COMMAND = Path(sys.executable).with_name("qm")
LIMIT_S = 30.0


@dataclass(slots=True)
class Worker:
    """A `qm worker` that can be killed."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def limit_memory(self, more_bytes: int) -> None:
        """From now on it can take so much more, whatever it tells of free memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (size_kib,) = re.findall(r"VmSize:\s+(\d+) kB", status)
        most = int(size_kib) * 1024 + more_bytes
        resource.prlimit(self.process.pid, resource.RLIMIT_AS, (most, most))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(worker: Worker) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and worker.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", worker.port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the worker does not serve; was llama-cpp-python built with RPC?")


@pytest.fixture
def start_worker() -> Iterator[Callable[[], Worker]]:
    """Starts workers that end with the test."""
    workers: list[Worker] = []

    def start() -> Worker:
        port = _free_port()
        command = (str(COMMAND), "worker", "--port", str(port), "--threads", "1")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        workers.append(Worker(port, process))
        _wait_for(workers[-1])
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture(scope="session")
def home(smollm2_gguf: Path, gemma3_gguf: Path) -> Iterator[Path]:
    """A store that has the models smollm2 and gemma3, for one daemon at a time."""
    with tempfile.TemporaryDirectory(prefix="qm-", dir="/tmp") as text:
        path = Path(text)
        environment = {
            **os.environ,
            "QM_HOME": text,
            "QM_HOST": "off",
            "QM_CONFIG": str(path / "qm.toml"),
        }
        (path / "qm.toml").touch()
        models = {"smollm2": smollm2_gguf, "gemma3": gemma3_gguf}
        try:
            for name, weights in models.items():
                arguments = (COMMAND, "create", name, "--from", str(weights))
                subprocess.run(arguments, env=environment, check=True, timeout=240)
        finally:
            subprocess.run((COMMAND, "shutdown"), env=environment, check=True, timeout=240)
        yield path


@pytest.fixture
def start_offloading(
    start_daemon: Callable[..., LiveDaemon], home: Path
) -> Callable[..., LiveDaemon]:
    """Starts daemons that have both models and these workers; end one before the next."""

    def start(*workers: Worker, **settings: str) -> LiveDaemon:
        endpoints = ",".join(worker.endpoint for worker in workers)
        return start_daemon(home, QM_RPC=endpoints, **settings)

    return start
