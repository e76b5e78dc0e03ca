"""A build that is cut off at any step goes on where its last finished step ended."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from qm.modelfiles.build.texts import EVALUATION

from tests.conftest import COMMAND

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

pytestmark = pytest.mark.slow
LIMIT_S = 600  # builds stand back behind whatever else the machine does
STEPS = {
    "convert": "converting model",
    "imatrix": "computing importance matrix",
    "quantize": "quantizing BF16 model to Q4_K_S",
    "evaluate": "evaluating",
}


@pytest.fixture
def modelfile(smollm2_repository: Path, tmp_path: Path) -> Path:
    """A build of four steps, each long enough to be caught at."""
    (tmp_path / "calibration.txt").write_bytes(EVALUATION.data[:6000])
    path = tmp_path / "Modelfile"
    path.write_text(
        f"FROM {smollm2_repository}\nQUANTIZE Q4_K_S\nCALIBRATION calibration.txt\nEVALUATE\n"
    )
    return path


def job_at(daemon: LiveDaemon, status: str) -> int:
    """The process of the build, once it says so and has begun with it."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        for job in daemon.json("GET", "/qm/status")["jobs"]:
            if job["kind"] == "create" and job["step"].get("status") == status:
                pid: int = job["pid"]
                return pid
        time.sleep(0.01)
    pytest.fail(f"the build never came to {status!r}")


def wait_until_gone(pid: int) -> None:
    """A process in native code is ended after a while, not at once."""
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.01)


def begun(daemon: LiveDaemon, modelfile: Path) -> subprocess.Popen[str]:
    """`qm create m`, under way."""
    command = [str(COMMAND), "create", "m", "-f", str(modelfile)]
    return subprocess.Popen(command, env=daemon.env, stderr=subprocess.PIPE, text=True)


def test_every_step_survives_a_kill(
    start_daemon: Callable[..., LiveDaemon], modelfile: Path
) -> None:
    """The job's process is killed at each step in turn; what was finished is not done again."""
    daemon = start_daemon()
    for status in STEPS.values():
        building = begun(daemon, modelfile)
        os.kill(job_at(daemon, status), signal.SIGKILL)
        _, said = building.communicate(timeout=LIMIT_S)
        assert building.returncode == 1
        assert "job ended with exit status -9" in said
    modelfile.write_text(modelfile.read_text().replace("EVALUATE\n", ""))  # that takes a while
    done = daemon.qm("create", "m", "-f", str(modelfile), limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    for kind in ("convert", "imatrix", "quantize"):
        assert f"using cached {kind} sha256:" in done.stderr
    assert daemon.qm("verify").returncode == 0


def test_a_daemon_that_is_killed_takes_its_job_along(
    start_daemon: Callable[..., LiveDaemon], modelfile: Path
) -> None:
    """No process goes on without it; the next daemon resumes."""
    daemon = start_daemon()
    building = begun(daemon, modelfile)
    pid = job_at(daemon, STEPS["imatrix"])
    daemon.process.kill()
    daemon.process.wait()
    building.communicate(timeout=LIMIT_S)
    assert building.returncode != 0
    wait_until_gone(pid)
    daemon = start_daemon(home=daemon.home)
    modelfile.write_text(modelfile.read_text().replace("EVALUATE\n", ""))
    building = begun(daemon, modelfile)
    pid = job_at(daemon, STEPS["quantize"])
    building.send_signal(signal.SIGINT)
    building.communicate(timeout=LIMIT_S)
    assert building.returncode != 0
    done = daemon.qm("create", "m", "-f", str(modelfile), limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert "using cached convert sha256:" in done.stderr
    assert "using cached imatrix sha256:" in done.stderr
    wait_until_gone(pid)


def test_a_disk_that_fills_loses_nothing(
    start_daemon: Callable[..., LiveDaemon], modelfile: Path
) -> None:
    """The error says what is wrong; with room again the build goes on after the conversion."""
    daemon = start_daemon()
    modelfile.write_text(modelfile.read_text().replace("EVALUATE\n", "IMATRIX none\n"))
    built = daemon.qm("create", "m", "-f", str(modelfile), limit_s=LIMIT_S)
    assert built.returncode == 0, built.stderr
    before = sorted((daemon.home / "blobs").iterdir())
    small = 20 << 20  # less than the quantised weights
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (small, resource.RLIM_INFINITY))
    modelfile.write_text(modelfile.read_text().replace("Q4_K_S", "Q5_0"))
    full = daemon.qm("create", "n", "-f", str(modelfile), limit_s=LIMIT_S)
    assert full.returncode == 1
    assert "no space left while writing a blob" in full.stderr
    assert sorted((daemon.home / "blobs").iterdir()) == before
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, unlimited)
    done = daemon.qm("create", "n", "-f", str(modelfile), limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert "using cached convert sha256:" in done.stderr
