"""A runner that is killed, aborts or stops: at most one clear error, and then all is well."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest

from .runner.tiny_models import write_tiny_model
from .test_lifecycle import add_model, children, is_gone, loaded, until

if TYPE_CHECKING:
    from ..conftest import LiveDaemon

ASKED = {
    "model": "smollm2",
    "prompt": "Hello",
    "raw": True,
    "stream": False,
    "options": {"temperature": 0, "num_predict": 4, "ignore_eos": True},
}
ENDLESS = ASKED | {
    "stream": True,
    "options": {"temperature": 0, "num_predict": 100_000, "ignore_eos": True, "num_ctx": 2048},
}
DEADLY = [signal.SIGKILL, signal.SIGABRT]
Asked = Queue[tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def daemon(
    start_module_daemon: Callable[..., LiveDaemon], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveDaemon]:
    """One daemon with a model that loads at once; every test leaves it as it was."""
    daemon = start_module_daemon(QM_LOAD_TIMEOUT="6s")
    add_model(daemon, write_tiny_model(tmp_path_factory.mktemp("model") / "model.gguf", "llama"))
    yield daemon
    assert daemon.process.poll() is None


def spare(daemon: LiveDaemon) -> int:
    """The runner that waits for a model."""
    busy = {int(str(row["pid"])) for row in loaded(daemon)}
    until(lambda: any(map(is_up, runners(daemon) - busy)), "there is no warm spare")
    return next(pid for pid in runners(daemon) - busy if is_up(pid))


def is_up(pid: int) -> bool:
    """Whether it has said hello: after that it starts a thread that listens."""
    return len(list(Path(f"/proc/{pid}/task").glob("*"))) > 1


def runners(daemon: LiveDaemon) -> set[int]:
    found = set()
    for pid in children(daemon.process.pid):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"qm.daemon.runner" in command and not is_gone(pid):
            found.add(pid)
    return found


def load(daemon: LiveDaemon) -> int:
    """The runner's pid."""
    daemon.json("POST", "/api/generate", ASKED)
    (row,) = loaded(daemon)
    return int(str(row["pid"]))


def unload(daemon: LiveDaemon) -> None:
    daemon.json("POST", "/qm/unload", {"model": "smollm2"})


def ask(daemon: LiveDaemon, path: str = "/api/generate", body: object = ASKED) -> Asked:
    """Sends a request beside what the test does; its answer comes through the queue."""
    answers: Asked = Queue()

    def call() -> None:
        try:
            status, data = daemon.call("POST", path, body)
            answers.put((status, json.loads(data)))
        except (OSError, http.client.HTTPException) as error:
            answers.put((0, {"error": repr(error)}))

    threading.Thread(target=call, daemon=True).start()
    return answers


def end(stopped: int, number: signal.Signals) -> None:
    """Signals a stopped process, which must go on to abort."""
    os.kill(stopped, number)
    with suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGCONT)


def all_is_well(daemon: LiveDaemon, died: int) -> None:
    """The process is reaped, and the next request is answered by another."""
    until(lambda: is_gone(died), "the dead runner was not reaped")
    until(lambda: died not in [row["pid"] for row in loaded(daemon)], "nobody saw it die")
    assert load(daemon) != died
    unload(daemon)
    assert loaded(daemon) == []


@pytest.mark.parametrize("number", DEADLY)
def test_while_it_waits_for_a_model(daemon: LiveDaemon, number: signal.Signals) -> None:
    """Nobody notices."""
    died = spare(daemon)
    os.kill(died, number)
    all_is_well(daemon, died)


@pytest.mark.parametrize("number", DEADLY)
def test_while_it_loads(daemon: LiveDaemon, number: signal.Signals) -> None:
    """Whoever waits for the model learns how its runner ended."""
    died = spare(daemon)
    os.kill(died, signal.SIGSTOP)  # so that the load doesn't end before it does
    answer = ask(daemon)
    until(lambda: [row["pid"] for row in loaded(daemon)] == [died], "the load did not begin")
    end(died, number)
    status, document = answer.get(timeout=60)
    assert (status, number.name in document["error"]) == (500, True), document
    all_is_well(daemon, died)


def test_a_load_that_stops(daemon: LiveDaemon) -> None:
    """It is given up after `QM_LOAD_TIMEOUT` without progress."""
    died = spare(daemon)
    os.kill(died, signal.SIGSTOP)
    status, document = ask(daemon).get(timeout=60)
    assert (status, "6" in document["error"]) == (500, True), document
    all_is_well(daemon, died)


@pytest.mark.parametrize("number", DEADLY)
def test_before_it_has_looked_at_a_prompt(daemon: LiveDaemon, number: signal.Signals) -> None:
    """Nothing was answered yet, so those who wait for it are answered by another."""
    died = load(daemon)
    os.kill(died, signal.SIGSTOP)
    answers = [ask(daemon), ask(daemon)]
    until(lambda: [row["users"] for row in loaded(daemon)] == [2], "a request did not get there")
    end(died, number)
    for answer in answers:
        status, document = answer.get(timeout=60)
        assert (status, document.get("done")) == (200, True), document
    all_is_well(daemon, died)


def test_a_second_death_is_told(daemon: LiveDaemon) -> None:
    """A request that kills runners doesn't go on and on."""
    died = load(daemon)
    second = spare(daemon)
    os.kill(died, signal.SIGSTOP)
    answer = ask(daemon)
    until(lambda: [row["users"] for row in loaded(daemon)] == [1], "the request did not get there")
    os.kill(second, signal.SIGSTOP)
    end(died, signal.SIGKILL)
    until(lambda: [row["pid"] for row in loaded(daemon)] == [second], "no other one was loaded")
    end(second, signal.SIGKILL)
    status, document = answer.get(timeout=60)
    assert (status, "SIGKILL" in document["error"]) == (500, True), document
    all_is_well(daemon, second)


@pytest.mark.parametrize("number", DEADLY)
def test_in_the_middle_of_an_answer(daemon: LiveDaemon, number: signal.Signals) -> None:
    """One line says it, and the stream ends."""
    with daemon.stream("/api/generate", ENDLESS) as lines:
        assert "error" not in next(lines)
        (row,) = loaded(daemon)
        died = int(str(row["pid"]))
        os.kill(died, number)
        rest = list(lines)
    assert ["error" in line for line in rest].count(True) == 1
    assert number.name in rest[-1]["error"]
    all_is_well(daemon, died)


@pytest.mark.parametrize("number", DEADLY)
def test_while_it_is_idle(daemon: LiveDaemon, number: signal.Signals) -> None:
    """The next request finds another."""
    died = load(daemon)
    os.kill(died, number)
    all_is_well(daemon, died)


@pytest.mark.parametrize("number", DEADLY)
def test_while_it_is_unloaded(daemon: LiveDaemon, number: signal.Signals) -> None:
    """That is what was wanted."""
    died = load(daemon)
    os.kill(died, signal.SIGSTOP)
    answer = ask(daemon, "/qm/unload", {"model": "smollm2"})
    until(lambda: [row["state"] for row in loaded(daemon)] == ["unloading"], "it goes on")
    end(died, number)
    assert answer.get(timeout=60) == (200, {"unloaded": True})
    all_is_well(daemon, died)


def test_an_abort_tells_what_the_runner_said_last(daemon: LiveDaemon) -> None:
    """The end of its log is in the error."""
    died = load(daemon)
    log = next(
        path
        for path in (daemon.home / "logs").glob("runner-*.log")
        if any(path.samefile(fd) for fd in (Path(f"/proc/{died}/fd/1"),))
    )
    with log.open("a") as file:
        file.write("ggml.c:1: GGML_ASSERT(sense) failed\n")
    with daemon.stream("/api/generate", ENDLESS) as lines:
        next(lines)
        os.kill(died, signal.SIGABRT)
        error = list(lines)[-1]["error"]
    assert "SIGABRT" in error
    assert "GGML_ASSERT(sense) failed" in error
    all_is_well(daemon, died)


def test_a_prompt_of_100_megabytes(daemon: LiveDaemon) -> None:
    """It is refused with a reason, and nothing grows."""
    before = memory_bytes(daemon.process.pid)
    status, data = daemon.call("POST", "/api/generate", ASKED | {"prompt": "word " * 20_000_000})
    assert status in (400, 413), data
    assert json.loads(data)["error"]
    assert memory_bytes(daemon.process.pid) < before + (300 << 20)
    assert load(daemon)
    unload(daemon)


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
