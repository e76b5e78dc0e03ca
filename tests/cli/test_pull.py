"""`qm pull`, and the commands that pull or show pulls."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import COMMAND, LiveDaemon
from tests.fakehub import FakeHub
from tests.modelfiles.build.tiny_llama import write_tiny_llama

MODEL = "hf.co/org/smol:Q4_1"
WAIT_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, smollm2_gguf: Path) -> Iterator[FakeHub]:
    root = tmp_path_factory.mktemp("repos")
    (root / "org/smol").mkdir(parents=True)
    shutil.copy(smollm2_gguf, root / "org/smol/smollm2.Q4_1.gguf")
    with FakeHub(root) as hub:
        yield hub


@pytest.fixture
def daemon(
    hub: FakeHub, start_daemon: Callable[..., LiveDaemon], tmp_path: Path
) -> Iterator[LiveDaemon]:
    hub.log.clear()
    yield start_daemon(HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path))
    hub.faults.clear()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.mark.slow
def test_an_interrupted_pull_is_shown_kept_and_goes_on(daemon: LiveDaemon, hub: FakeHub) -> None:
    """`qm ps` shows it; Ctrl-C says how to go on; the next one fetches only the rest."""
    hub.fault("slow", path="org/smol/*", side="cdn", times=0, rate=2_000_000)
    process = subprocess.Popen(
        [COMMAND, "pull", MODEL], env=daemon.env, stderr=subprocess.PIPE, text=True
    )
    until(lambda: hub.sent_bytes() > 12 << 20)
    listed = daemon.qm("ps").stdout
    assert MODEL in listed
    assert "% of 98 MB" in listed
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=WAIT_LIMIT_S)
    assert process.returncode == 130
    assert f"qm pull {MODEL} goes on" in told
    until(lambda: not daemon.json("GET", "/qm/status")["jobs"])
    hub.faults.clear()
    first = hub.sent_bytes()
    pulled = daemon.qm("pull", MODEL)
    assert (pulled.returncode, pulled.stdout) == (0, f"pulled '{MODEL}'\n")
    assert hub.sent_bytes() < 98362432 + (16 << 20)
    assert first > 0
    hub.log.clear()
    assert daemon.qm("pull", MODEL).returncode == 0
    assert hub.sent_bytes() == 0


@pytest.mark.slow
def test_run_pulls_a_model_that_is_missing(daemon: LiveDaemon, hub: FakeHub) -> None:
    """Progress goes to stderr, the answer alone to stdout."""
    done = daemon.qm("run", MODEL, "-p", "num_predict=3", "-p", "seed=1", "Say hi")
    assert done.returncode == 0, done.stderr
    assert "pulling manifest" in done.stderr
    assert done.stdout.strip()
    assert hub.sent_bytes() == 98362432
    again = daemon.qm("run", MODEL, "-p", "num_predict=3", "Say hi")
    assert "pulling" not in again.stderr


def test_a_refusal_is_told_without_a_traceback(daemon: LiveDaemon) -> None:
    """One line on stderr, exit status 1."""
    done = daemon.qm("pull", "hf.co/org/nosuch")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: the hub has no repository org/nosuch")


@pytest.mark.parametrize("rate", ["quick", "-1", "12"])
def test_a_rate_that_makes_no_sense_is_refused(rate: str) -> None:
    """Before any daemon is asked."""
    env = {**os.environ, "QM_SOCKET": "/nonexistent/qm.sock"}
    command = [str(COMMAND), "pull", "--limit-rate", rate, MODEL]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "--limit-rate" in done.stderr


def test_a_plan_before_the_download(daemon: LiveDaemon, hub: FakeHub) -> None:
    """From the headers alone, by ranges; nothing is kept."""
    planned = json.loads(daemon.qm("plan", MODEL, "--num-ctx", "2048", "--json").stdout)
    assert planned["context_length"] == 2048
    assert planned["read_bytes"] < 20_000_000
    assert not planned["measured"]
    assert MODEL not in daemon.qm("list").stdout
    assert "download:   98 MB as Q4_1;" in daemon.qm("plan", MODEL).stdout
    assert "Error" in daemon.qm("plan", "hf.co/org/nothing-there").stderr


def test_pages_of_a_mirror_are_pages_of_the_hub(daemon: LiveDaemon, hub: FakeHub) -> None:
    """Where HF_ENDPOINT names the mirror, for every command, and for clients over HTTP."""
    write_tiny_llama(hub.repos.root / "org/smol/tiny-F16.gguf")
    page = f"{hub.url}/org/smol/blob/main/tiny-F16.gguf"
    pulled = daemon.qm("pull", page)
    assert (pulled.returncode, pulled.stdout) == (0, "pulled 'hf.co/org/smol:tiny-F16'\n")
    assert daemon.qm("rm", page).returncode == 0
    made = daemon.qm("create", "mine", "--from", page)
    assert made.returncode == 0, made.stderr
    assert daemon.json("POST", "/api/pull", {"model": page, "stream": False}) == {
        "status": "success"
    }
    assert daemon.qm("show", page).returncode == 0
    assert json.loads(daemon.qm("plan", page, "--json").stdout)["quant"] == "F16"
    (hub.repos.root / "org/smol/tiny-F16.gguf").unlink()
    elsewhere = daemon.qm("pull", "https://mirror.invalid/org/smol/tree/v1")
    assert elsewhere.returncode == 1
    assert "HF_ENDPOINT=https://mirror.invalid" in elsewhere.stderr


def test_a_token_of_the_command_counts(daemon: LiveDaemon, hub: FakeHub) -> None:
    """Whatever the daemon was started with; it stays with that one pull."""
    folder = hub.repos.root / "org/gated"
    if not folder.exists():
        folder.mkdir()
        write_tiny_llama(folder / "tiny-F16.gguf")
        (folder / ".fakehub.json").write_text('{"gated": "manual", "readers": ["alice"]}')
    refused = daemon.qm("pull", "hf.co/org/gated")
    assert (refused.returncode, "accept its licence" in refused.stderr) == (1, True)
    with_token = replace(daemon, env=daemon.env | {"HF_TOKEN": "hf_alice"})
    pulled = with_token.qm("pull", "hf.co/org/gated")
    assert pulled.returncode == 0, pulled.stderr
    assert daemon.qm("rm", "hf.co/org/gated").returncode == 0
    assert daemon.qm("pull", "hf.co/org/gated").returncode == 1
    offline = replace(daemon, env=daemon.env | {"HF_HUB_OFFLINE": "1"})
    refused = offline.qm("pull", "hf.co/org/gated")
    assert "offline mode is on" in refused.stderr
