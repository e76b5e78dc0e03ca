"""What a job's process does when its job is cancelled."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from qm.daemon.job_process import TERMINATED

LIMIT_S = 60
WRITING = """
import ctypes, signal, sys, threading
from qm.daemon.job_process import leave_build
signal.signal(signal.SIGTERM, leave_build)
libc = ctypes.CDLL(None)
file = open(sys.argv[1], "wb", buffering=0)
def write():
    while libc.write(file.fileno(), b"x", 1) == 1:
        pass
    print("unwound", flush=True)
threading.Thread(target=write).start()
print("writing", flush=True)
threading.Event().wait()
"""


def test_native_code_that_writes_comes_to_an_end(tmp_path: Path) -> None:
    """It is not left to itself until it is killed, which would leave its files behind."""
    command = [sys.executable, "-c", WRITING, str(tmp_path / "file")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=LIMIT_S)
    assert rest == "unwound\n"
    assert process.returncode == TERMINATED
