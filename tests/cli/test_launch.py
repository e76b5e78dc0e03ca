"""A daemon in the background: started, lost to another one, or dead with a reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from qm.cli import launch
from qm.cli.launch import DaemonDied, DaemonNotReady, ensure_daemon
from qm.daemon.settings import Settings, load_settings

from .conftest import FakeDaemon

HEALTHY = """
import http.server, os, socketserver, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def address_string(self):
        return "-"

open(sys.argv[2], "w").write(str(os.getpid()))
socketserver.UnixStreamServer(sys.argv[1], Handler).serve_forever()
"""


@pytest.fixture
def settings(short_path: Path) -> Settings:
    """Settings of a home of its own."""
    return load_settings({"QM_HOME": str(short_path), "QM_SOCKET": str(short_path / "qm.sock")})


@pytest.fixture
def pid_file(short_path: Path) -> Iterator[Path]:
    """Where the stand-in daemon writes its pid; it is ended after the test."""
    path = short_path / "pid"
    yield path
    if path.exists():
        pid = int(path.read_text())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def start_instead(monkeypatch: pytest.MonkeyPatch, code: str, *argv: object) -> None:
    """The daemon is this Python program."""
    command = [sys.executable, "-c", code, *map(str, argv)]
    monkeypatch.setattr(launch, "daemon_argv", lambda: command)


def test_one_that_runs_is_used(
    fake_daemon: FakeDaemon, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_a, **_k: pytest.fail("started another"))
    assert ensure_daemon(settings).socket == fake_daemon.socket


def test_one_is_started_and_awaited(
    settings: Settings, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers when we get it, and it is no child of the terminal's session."""
    start_instead(monkeypatch, HEALTHY, settings.socket, pid_file)
    assert ensure_daemon(settings).is_healthy()
    pid = int(pid_file.read_text())
    assert os.getsid(pid) == pid


def test_an_early_death_shows_what_was_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its output, not that of the one before."""
    monkeypatch.setattr(launch, "RACE_LIMIT_S", 0.01)
    start_instead(monkeypatch, "raise SystemExit('old words')")
    with pytest.raises(DaemonDied, match="old words"):
        ensure_daemon(settings)
    start_instead(monkeypatch, "import sys; print('store is locked'); sys.exit(3)")
    with pytest.raises(DaemonDied, match=r"exit code 3\):\nstore is locked$"):
        ensure_daemon(settings)


def test_losing_a_race_is_no_error(
    settings: Settings, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours ends because another daemon has the store; that one is used when it listens."""
    loser = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {HEALTHY!r}, *sys.argv[1:]])\n"
        "sys.exit(1)"
    )
    start_instead(monkeypatch, loser, settings.socket, pid_file)
    assert ensure_daemon(settings).is_healthy()
    # The winner is no child of ours: the fixture could not wait for it.
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    pid_file.unlink()


def test_one_that_never_answers_is_not_waited_for_forever(
    settings: Settings, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the log."""
    monkeypatch.setattr(launch, "READY_LIMIT_S", 0.3)
    silent = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    start_instead(monkeypatch, silent, pid_file)
    with pytest.raises(DaemonNotReady, match=r"daemon\.log"):
        ensure_daemon(settings)
