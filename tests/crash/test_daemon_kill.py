"""kill -9 of the daemon itself, whatever it does: its jobs end with it, its store stays whole."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from qm.store.store import open_store
from qm.store.verify import verify_store

from tests.conftest import COMMAND, LiveDaemon
from tests.crash.conftest import SEGMENT_BYTES, SOAK, until
from tests.fakehub import FakeHub
from tests.modelfiles.build.tiny_llama import write_tiny_llama

KILLS = 80 if SOAK else 3
MODEL = "hf.co/org/tiny"
WORK = (
    ("pull", MODEL),
    ("pull", MODEL),
    ("create", "made", "--from", "{file}"),
    ("rm", "made"),
    ("rm", MODEL),
    ("gc",),
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    (tmp_path / "repos/org/tiny").mkdir(parents=True)
    write_tiny_llama(tmp_path / "repos/org/tiny/tiny-F32.gguf", np.float32)
    with FakeHub(tmp_path / "repos") as hub:
        yield hub


def jobs_of(daemon: LiveDaemon) -> list[int]:
    return [job["pid"] for job in daemon.json("GET", "/qm/status")["jobs"] if job["pid"]]


def is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def disturbed(daemon: LiveDaemon, command: list[str], after_s: float) -> None:
    """Begins the command, and kills the daemon under it."""
    with subprocess.Popen(
        [COMMAND, *command], env=daemon.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        threading.Event().wait(after_s)
        jobs = jobs_of(daemon)
        daemon.process.kill()
        daemon.process.wait()
        process.kill()
    until(lambda: all(map(is_over, jobs)))


@pytest.mark.slow
def test_a_killed_daemon_leaves_a_whole_store(
    start_daemon: Callable[..., LiveDaemon], hub: FakeHub, tmp_path: Path
) -> None:
    """Its jobs die with it; after each kill all that is visible is sound, and at the end what was
    begun succeeds, having fetched at most a segment more for each kill.
    """
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    file = hub.repos.root / "org/tiny/tiny-F32.gguf"
    chance, home, pulled = random.Random(11), None, 0
    hub.fault("slow", path="org/tiny/*", side="cdn", times=0, rate=4 << 20)
    for number in range(KILLS):
        daemon = start_daemon(home=home, **settings)
        home = daemon.home
        command = list(WORK[number % 2] if number < 2 else chance.choice(WORK))
        pulled += command[0] == "pull"
        work = [str(file) if word == "{file}" else word for word in command]
        disturbed(daemon, work, chance.uniform(0.2, 1.2))
        verified = verify_store(open_store(home))
        assert (verified.bad, verified.unreadable) == ((), ())
    hub.faults.clear()
    daemon = start_daemon(home=home, **settings)
    done = daemon.qm("pull", MODEL)
    assert done.returncode == 0, done.stderr
    assert hub.sent_bytes() <= (pulled + 1) * (file.stat().st_size + SEGMENT_BYTES)
    body = {"model": MODEL, "prompt": "a", "raw": True, "options": {"num_predict": 2}}
    answer = daemon.json("POST", "/api/generate", body | {"stream": False})
    assert answer["eval_count"] == 2
    assert daemon.qm("verify").returncode == 0
    assert daemon.qm("gc").returncode == 0
