"""The command as a shell sees it: words on the right stream, and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from qm.cli.main import ALIASES, COMMANDS, qm

QM = Path(sys.executable).with_name("qm")


def run_qm(home: Path, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`qm ARGV` with a home where no daemon runs."""
    env = os.environ | {"QM_HOME": str(home), "QM_SOCKET": str(home / "qm.sock")}
    return subprocess.run(
        [QM, *argv], env=env, input=stdin, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("name", [*COMMANDS, *ALIASES])
def test_every_command_is_there_and_says_what_it_does(name: str) -> None:
    """The lazy table names real commands; each explains itself and its options."""
    command = qm.get_command(click.Context(qm), name)
    assert command is not None
    assert command.help
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert all(option.help or option.hidden for option in options)


def test_help_lists_the_commands(short_path: Path) -> None:
    """`qm`, `qm -h` and `qm --help`; only the bare one is a mistake."""
    help_text = run_qm(short_path, "--help").stdout
    assert all(name in help_text for name in COMMANDS)
    assert run_qm(short_path, "-h").stdout == help_text
    bare = run_qm(short_path)
    assert bare.returncode == 2
    assert "Commands:" in bare.stderr


def test_the_version(short_path: Path) -> None:
    """As the package has it."""
    assert run_qm(short_path, "--version").stdout.startswith("qm 0.")


@pytest.mark.parametrize("argv", [("nope",), ("show",), ("list", "--nope"), ("completion", "tcsh")])
def test_wrong_use_is_exit_code_2(short_path: Path, argv: tuple[str, ...]) -> None:
    """With the reason on stderr."""
    done = run_qm(short_path, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


def test_an_error_is_one_line_and_exit_code_1(short_path: Path) -> None:
    """No traceback."""
    done = run_qm(short_path, "create", "x", "-f", "/none")
    assert done.returncode == 1
    assert done.stderr == "Error: can't read the Modelfile /none: No such file or directory\n"


def test_a_wrong_instruction_is_named_with_its_line(short_path: Path) -> None:
    """Before anything is started."""
    done = run_qm(short_path, "create", "x", "-f", "-", stdin="FROM y\nBAKE 200")
    assert done.returncode == 1
    assert "line 2: unknown instruction 'BAKE'" in done.stderr


def test_without_a_daemon(short_path: Path) -> None:
    """Commands that only look, or end things, start none."""
    status = run_qm(short_path, "status")
    assert (status.returncode, "not running" in status.stdout) == (1, True)
    assert '"running": false' in run_qm(short_path, "status", "--json").stdout
    assert run_qm(short_path, "ps").stdout.startswith("NAME")
    assert run_qm(short_path, "ps", "--json").stdout == "[]\n"
    assert run_qm(short_path, "shutdown").stdout == "the daemon was not running\n"
    assert "was not loaded" in run_qm(short_path, "stop", "x").stdout
    assert "no log" in run_qm(short_path, "logs").stderr
    assert not (short_path / "qm.sock").exists()


def test_a_wrong_setting_is_named(short_path: Path) -> None:
    """The environment is the user's input, too."""
    env = os.environ | {"QM_KEEP_ALIVE": "soon"}
    done = subprocess.run([QM, "ps"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: QM_KEEP_ALIVE")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_qm(short_path: Path, shell: str) -> None:
    """The script names the variable that makes qm complete."""
    done = run_qm(short_path, "completion", shell)
    assert (done.returncode, "_QM_COMPLETE" in done.stdout) == (0, True)


def test_bash_completes_commands(short_path: Path) -> None:
    """As the script asks for them."""
    env = os.environ | {
        "QM_HOME": str(short_path),
        "_QM_COMPLETE": "bash_complete",
        "COMP_WORDS": "qm st",
        "COMP_CWORD": "1",
    }
    done = subprocess.run([QM], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,stop", "plain,status", "plain,store"]


def test_a_reader_who_left_is_no_error_message(short_path: Path) -> None:
    """As in `qm list | head -1`, when head is done before us."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        env = os.environ | {"QM_HOME": str(short_path)}
        done = subprocess.run(
            [QM, "ps"], env=env, stdout=nobody, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device stands for a full disk")
def test_output_that_can_not_be_written_is_an_error(short_path: Path) -> None:
    """In words; a closed output is none."""
    env = os.environ | {"QM_HOME": str(short_path)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [QM, "--help"], env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")
    closed = subprocess.run(["sh", "-c", f"{QM} --help >&-"], env=env, check=False)
    assert closed.returncode == 0
