"""The daemon behind the commands: started when needed, one of it, gone when told or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

QM = Path(sys.executable).with_name("qm")
MODELFILE = Path(__file__).parents[2] / "modelfiles/examples/smollm2.Modelfile"
LIMIT_S = 30.0


@dataclass(frozen=True)
class Home:
    """A home of its own, in which qm commands start their own daemon."""

    env: dict[str, str]

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """A command that runs on."""
        return subprocess.Popen(
            [QM, *argv],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def qm(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A command, run to its end."""
        command = self.start(*argv)
        out, err = command.communicate(timeout=60)
        return subprocess.CompletedProcess(argv, command.returncode, out, err)

    def pid(self) -> int:
        """The daemon's."""
        return int(json.loads(self.qm("status", "--json").stdout)["pid"])


@pytest.fixture
def home(short_path: Path) -> Iterator[Home]:
    """Nothing runs there yet; what the test starts is ended."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    own = {"QM_HOME": str(short_path), "QM_HOST": "127.0.0.1:0", "QM_CONFIG": str(short_path / "c")}
    (short_path / "c").touch()
    home = Home(kept | own)
    yield home
    done = home.qm("shutdown")
    assert done.returncode == 0, done.stderr


def wait_for(condition: Callable[[], bool]) -> None:
    """Until the condition holds; fails the test when that takes too long."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether there is such a process, zombies aside."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that live."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def test_a_command_starts_the_daemon_and_shutdown_ends_it(home: Home) -> None:
    """In the background: the command comes back, the daemon stays, until it is told."""
    assert home.qm("status").returncode == 1
    assert home.qm("list").stdout.startswith("NAME")
    pid = home.pid()
    assert home.qm("shutdown").stdout == "the daemon has ended\n"
    assert not lives(pid)


def test_commands_that_race_share_one_daemon(home: Home) -> None:
    """All succeed, and only one daemon is ever started: no late one may outlive a shutdown."""
    racing = [home.start("list") for _ in range(4)]
    for command in racing:
        out, err = command.communicate(timeout=LIMIT_S)
        assert (command.returncode, err) == (0, ""), out
    refused = next(Path(home.env["QM_HOME"]).rglob("start.log")).read_text()
    assert "already serves" not in refused


def test_a_daemon_that_cannot_start_says_why(home: Home) -> None:
    """The reason is on the screen, not only in a log."""
    home.env["QM_HOST"] = "0.0.0.0:0"
    refused = home.qm("list")
    assert refused.returncode == 1
    assert "the daemon did not start" in refused.stderr
    assert "key" in refused.stderr.lower()
    home.env["QM_HOST"] = "127.0.0.1:0"


def test_a_daemon_killed_in_the_middle_of_an_answer(home: Home, smollm2_gguf: Path) -> None:
    """The command says so and fails; no runner is left; the next command starts a new daemon."""
    created = home.qm("create", "m", "-f", str(MODELFILE), "--from", str(smollm2_gguf))
    assert created.returncode == 0, created.stderr
    pid = home.pid()
    endless = ("-p", "ignore_eos=true", "-p", "num_predict=4000")
    asking = home.start("run", "m", *endless, "Tell a very long story.")
    assert asking.stdout is not None
    assert asking.stdout.read(1)
    runners = children(pid)
    assert runners
    os.kill(pid, signal.SIGKILL)
    _, err = asking.communicate(timeout=LIMIT_S)
    assert asking.returncode == 1
    assert "the daemon went away in the middle of the answer" in err
    wait_for(lambda: not any(map(lives, runners)))
    answer = home.qm("run", "m", "-p", "num_predict=8", "hello")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert home.pid() != pid


def test_ctrl_c_stops_an_answer(home: Home, smollm2_gguf: Path) -> None:
    """Exit code 130, no traceback, and the daemon is free for the next one."""
    home.qm("create", "m", "-f", str(MODELFILE), "--from", str(smollm2_gguf))
    asking = home.start("run", "m", "-p", "ignore_eos=true", "-p", "num_predict=4000", "Go on.")
    assert asking.stdout is not None
    assert asking.stdout.read(1)
    asking.send_signal(signal.SIGINT)
    _, err = asking.communicate(timeout=LIMIT_S)
    assert (asking.returncode, err) == (130, "")
    assert home.qm("run", "m", "-p", "num_predict=4", "hello").returncode == 0
