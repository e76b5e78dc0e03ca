"""A daemon to talk to: the one that runs, or a new one in the background."""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qm.store.errors import QmError

from .client import Client
from .transport import DaemonNotRunning, listens

if TYPE_CHECKING:
    from subprocess import Popen

    from qm.daemon.settings import Settings

READY_LIMIT_S = 30.0
# A daemon that lost the race to another one exits at once, a moment before the winner listens.
RACE_LIMIT_S = 5.0
EXIT_SETTINGS = 2  # the daemon's word for settings that can't be used: no other one can help
POLL_S = 0.01
TAIL_LINES = 15


class DaemonDied(QmError):
    """The daemon that we started ended before it was ready."""

    code = "daemon_died"

    def __init__(self, exit_code: int, words: str) -> None:
        said = words.strip() or "it said nothing"
        super().__init__(f"the daemon did not start (exit code {exit_code}):\n{said}")
        self.exit_code = exit_code


class DaemonNotReady(QmError):
    """The daemon runs, but does not answer in time."""

    code = "daemon_not_ready"

    def __init__(self, socket: Path, log: Path) -> None:
        super().__init__(
            f"the daemon did not answer at {socket} within {READY_LIMIT_S:.0f} s; see {log}"
        )


def daemon_argv() -> list[str]:
    """The command that is the daemon. -P: a folder named qm where the user stands is not ours."""
    return [sys.executable, "-P", "-m", "qm.daemon"]


def running_daemon(settings: Settings) -> Client:
    """A client of the daemon that should be there; a call raises DaemonNotRunning if it isn't."""
    return Client(settings.socket)


def ensure_daemon(settings: Settings) -> Client:
    """A client of a daemon that answers, started if need be. Raises DaemonDied, DaemonNotReady."""
    client = Client(settings.socket)
    if not listens(settings.socket):
        _start(settings, client)
    return client


def _start(settings: Settings, client: Client) -> None:
    with _starting_output(settings.log_file) as output, _start_turn(client, output.path):
        if listens(settings.socket):
            return
        child = _spawn(output.path)
        try:
            _wait_ready(client, child, output, settings.log_file)
        finally:
            _let_live(child)


@dataclass(frozen=True, slots=True)
class StartingOutput:
    """Where a daemon's stdout and stderr go until it has a log; others may write there too."""

    path: Path
    offset: int

    def text(self) -> str:
        """What was written since we began."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            lines = file.read().decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])


@contextmanager
def _starting_output(log_file: Path) -> Iterator[StartingOutput]:
    path = log_file.with_name("start.log")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        offset = path.stat().st_size
    except OSError as error:
        raise QmError(f"can't write the daemon's log: {error}") from error
    yield StartingOutput(path, offset)


@contextmanager
def _start_turn(client: Client, output: Path) -> Iterator[None]:
    """One command starts a daemon at a time. Raises DaemonNotReady.

    Of several children, one that was slow to start would take the place of a daemon that was told
    to end meanwhile.
    """
    with output.open("rb") as file:
        if not _until(lambda: _locks(file.fileno()), 2 * READY_LIMIT_S):
            raise DaemonNotReady(client.socket, output)
        yield


def _locks(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _spawn(output: Path) -> Popen[bytes]:
    import subprocess

    with output.open("ab") as file:
        return subprocess.Popen(
            [*daemon_argv(), "--background"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def _let_live(child: Popen[bytes]) -> None:
    """The daemon outlives us; else Popen would warn that nobody waited for it."""
    if child.returncode is None:
        child.returncode = 0


def _wait_ready(client: Client, child: Popen[bytes], output: StartingOutput, log: Path) -> None:
    """Wait for any daemon, ours or the winner of a race. Raises DaemonDied, DaemonNotReady."""
    if not _until(lambda: _ready(client) or child.poll() is not None, READY_LIMIT_S):
        raise DaemonNotReady(client.socket, log)
    if child.returncode is None:
        return
    patience_s = 0.0 if child.returncode == EXIT_SETTINGS else RACE_LIMIT_S
    if not _until(lambda: _ready(client), patience_s):
        raise DaemonDied(child.returncode, output.text())


def _ready(client: Client) -> bool:
    try:
        return client.is_healthy()
    except DaemonNotRunning:
        return False


def _until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Whether `condition` came true before the limit."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True
