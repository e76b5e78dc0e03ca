"""The daemon from start to end: a real process, real sockets, a tiny model."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from .runner.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from ..conftest import LiveDaemon

Start: TypeAlias = "Callable[..., LiveDaemon]"
LIMIT_S = 60.0
ENDLESS = {"temperature": 0, "ignore_eos": True, "num_ctx": 2048, "num_predict": 100_000}
STORY = {"model": "smollm2", "prompt": "Once upon a time", "options": ENDLESS}


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that loads at once."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model.gguf", "llama")


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_gone(pid: int) -> bool:
    """Whether no process has this pid, or only what nobody has reaped of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def log_text(daemon: LiveDaemon) -> str:
    return (daemon.home / "logs" / "daemon.log").read_text()


def add_model(daemon: LiveDaemon, gguf: Path) -> None:
    status, lines = daemon.call("POST", "/qm/adopt", {"path": str(gguf)})
    adopted = json.loads(lines.splitlines()[-1])
    assert (status, adopted.get("status")) == (200, "success"), adopted
    body = {"model": "smollm2", "files": {"model.gguf": adopted["digest"]}, "stream": False}
    assert daemon.json("POST", "/api/create", body)["status"] == "success"


def serve(**settings: str) -> subprocess.CompletedProcess[str]:
    """A daemon that should give up by itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    return subprocess.run(
        [sys.executable, "-m", "qm.daemon"],
        env=kept | {"QM_HOST": "127.0.0.1:0", "QM_CONFIG": os.devnull} | settings,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def loaded(daemon: LiveDaemon) -> list[dict[str, object]]:
    rows = daemon.json("GET", "/api/ps")["models"]
    return [row["qm"] for row in rows]


def test_it_says_where_it_is(start_daemon: Start) -> None:
    """Process, paths and the port that the system chose."""
    daemon = start_daemon()
    status = daemon.json("GET", "/qm/status")
    assert status["pid"] == daemon.process.pid
    assert status["store"] == str(daemon.home)
    host, port = status["host"].split(":")
    with socket.create_connection((host, int(port)), timeout=LIMIT_S):
        pass
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600


def test_sigterm_ends_it_and_everything_it_started(start_daemon: Start) -> None:
    """Exit status 0, no process and no socket left."""
    daemon = start_daemon()
    until(lambda: len(children(daemon.process.pid)) >= 1, "no spare was warmed")
    spares = children(daemon.process.pid)
    assert daemon.stop() == 0
    assert all(is_gone(pid) for pid in spares)
    assert not daemon.socket.exists()
    assert "event=stopped" in log_text(daemon)


def test_it_can_be_asked_to_end(start_daemon: Start) -> None:
    """As `qm shutdown` does."""
    daemon = start_daemon()
    assert daemon.call("POST", "/qm/shutdown")[0] == 202
    assert daemon.process.wait(LIMIT_S) == 0


def test_a_second_daemon_says_who_has_the_store(start_daemon: Start) -> None:
    """And leaves the first one's socket alone."""
    daemon = start_daemon()
    second = serve(QM_HOME=str(daemon.home), QM_SOCKET=str(daemon.socket))
    assert second.returncode == 1
    assert f"pid {daemon.process.pid}" in second.stderr
    assert str(daemon.socket) in second.stderr
    assert daemon.call("GET", "/health")[0] == 200


def test_another_stores_socket_is_not_taken(start_daemon: Start, tmp_path: Path) -> None:
    """Two stores, one QM_SOCKET: the second daemon refuses."""
    daemon = start_daemon()
    second = serve(QM_HOME=str(tmp_path / "other"), QM_SOCKET=str(daemon.socket))
    assert second.returncode == 1
    assert "another daemon" in second.stderr


def test_a_taken_port_leaves_the_socket(start_daemon: Start) -> None:
    """The log says so, and how to choose otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        daemon = start_daemon(QM_HOST=address)
        assert daemon.json("GET", "/qm/status")["host"] is None
        assert f"event=port_taken host={address}" in log_text(daemon)


def test_nothing_is_open_to_the_world_without_a_key(tmp_path: Path) -> None:
    """Exit status 2, and the way out."""
    for host in ("0.0.0.0:0", "[::]:0"):
        refused = serve(QM_HOME=str(tmp_path), QM_HOST=host)
        assert refused.returncode == 2
        assert "QM_API_KEY" in refused.stderr


def test_a_setting_that_is_wrong_is_named(tmp_path: Path) -> None:
    """Before anything is touched."""
    refused = serve(QM_HOME=str(tmp_path / "home"), QM_KEEP_ALIVE="soon")
    assert refused.returncode == 2
    assert "QM_KEEP_ALIVE" in refused.stderr
    assert not (tmp_path / "home").exists()


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    """As every other setting, and nothing is touched."""
    home = tmp_path / "home"
    for settings, reason in (
        ({"QM_TLS_CERT": "/dev/null"}, "can't use the certificate /dev/null"),
        ({"QM_TLS_CERT": str(tmp_path / "none.pem")}, "can't use the certificate"),
        ({"QM_TLS_KEY": "/dev/null"}, "QM_TLS_KEY needs QM_TLS_CERT"),
    ):
        refused = serve(QM_HOME=str(home), **settings)
        assert (refused.returncode, reason in refused.stderr) == (2, True), refused.stderr
        assert "Traceback" not in refused.stderr
        assert not home.exists()


def test_a_store_that_can_not_be_is_named(tmp_path: Path) -> None:
    """One line, no traceback."""
    (tmp_path / "file").write_text("")
    refused = serve(QM_HOME=str(tmp_path / "file" / "home"))
    assert refused.returncode == 1
    assert "can't use the store" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_after_kill_9_nothing_is_left_and_the_next_one_starts(start_daemon: Start) -> None:
    """Its spares die with it; its socket and lock are in nobody's way."""
    daemon = start_daemon()
    until(lambda: len(children(daemon.process.pid)) >= 1, "no spare was warmed")
    spares = children(daemon.process.pid)
    daemon.process.kill()
    daemon.process.wait()
    until(lambda: all(is_gone(pid) for pid in spares), "a spare outlived its daemon")
    assert daemon.socket.exists()
    again = start_daemon(home=daemon.home)
    assert again.json("GET", "/qm/status")["pid"] == again.process.pid


def test_a_crashed_runner_is_an_error_in_the_stream_and_loads_anew(
    start_daemon: Start, tiny_gguf: Path
) -> None:
    """The daemon goes on."""
    daemon = start_daemon()
    add_model(daemon, tiny_gguf)
    with daemon.stream("/api/generate", STORY) as lines:
        assert "error" not in next(lines)
        (row,) = loaded(daemon)
        os.kill(int(str(row["pid"])), signal.SIGKILL)
        rest = list(lines)
    assert "SIGKILL" in rest[-1]["error"]
    until(lambda: is_gone(int(str(row["pid"]))), "the dead runner was not reaped")
    short = STORY | {"options": {"num_predict": 1}, "stream": False}
    assert daemon.json("POST", "/api/generate", short)["done"]
    assert "event=runner_died" in log_text(daemon)


def test_kill_9_in_the_middle_of_an_answer_leaves_no_runner(
    start_daemon: Start, tiny_gguf: Path
) -> None:
    """The client's stream just ends; it can tell, since `done` never came."""
    daemon = start_daemon()
    add_model(daemon, tiny_gguf)
    with daemon.stream("/api/generate", STORY) as lines:
        next(lines)
        started = children(daemon.process.pid)
        daemon.process.kill()
        daemon.process.wait()
        assert not any(line["done"] for line in lines)
    until(lambda: all(is_gone(pid) for pid in started), "a child outlived the daemon")


def test_who_hangs_up_frees_the_runner(start_daemon: Start, tiny_gguf: Path) -> None:
    """Nothing is generated for nobody."""
    daemon = start_daemon()
    add_model(daemon, tiny_gguf)
    with daemon.stream("/api/generate", STORY) as lines:
        next(lines)
        assert [row["users"] for row in loaded(daemon)] == [1]
    until(lambda: [row["users"] for row in loaded(daemon)] == [0], "the slot was not freed")


def test_a_running_answer_is_drained(start_daemon: Start, tiny_gguf: Path) -> None:
    """SIGTERM lets it end, and new requests find nobody."""
    daemon = start_daemon(QM_DRAIN_TIMEOUT="60s")
    add_model(daemon, tiny_gguf)
    story = STORY | {"options": ENDLESS | {"num_predict": 1000}}
    with daemon.stream("/api/generate", story) as lines:
        next(lines)
        daemon.process.terminate()
        until(lambda: not daemon.socket.exists() or "event=stopping" in log_text(daemon), "")
        assert list(lines)[-1]["done_reason"] == "length"
    assert daemon.process.wait(LIMIT_S) == 0


def test_an_answer_that_takes_too_long_is_cut_with_an_error(
    start_daemon: Start, tiny_gguf: Path
) -> None:
    """Past the drain limit, and its runner is reaped before the daemon goes."""
    daemon = start_daemon(QM_DRAIN_TIMEOUT="50ms")
    add_model(daemon, tiny_gguf)
    with daemon.stream("/api/generate", STORY) as lines:
        next(lines)
        started = children(daemon.process.pid)
        daemon.process.terminate()
        assert "stopped" in list(lines)[-1]["error"]
    assert daemon.process.wait(LIMIT_S) == 0
    assert all(is_gone(pid) for pid in started)


def test_a_second_signal_does_not_wait(start_daemon: Start, tiny_gguf: Path) -> None:
    """Ctrl-C twice means now."""
    daemon = start_daemon(QM_DRAIN_TIMEOUT="10m")
    add_model(daemon, tiny_gguf)
    with daemon.stream("/api/generate", STORY) as lines:
        next(lines)
        daemon.process.send_signal(signal.SIGINT)
        until(lambda: "event=stopping" in log_text(daemon), "the first signal was lost")
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(LIMIT_S) == 0


def test_an_idle_model_expires(start_daemon: Start, tiny_gguf: Path) -> None:
    """After the request's keep_alive, which wins over the setting."""
    daemon = start_daemon(QM_KEEP_ALIVE="1h")
    add_model(daemon, tiny_gguf)
    daemon.json("POST", "/api/generate", {"model": "smollm2", "keep_alive": "200ms"})
    until(lambda: loaded(daemon) == [], "the model did not expire")
    assert "reason=expired" in log_text(daemon)
