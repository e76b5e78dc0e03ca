"""One daemon a store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from qm.daemon.instance import LOCK_NAME, AlreadyServed, claimed

HOLD = """
import sys, time
from pathlib import Path
from qm.daemon.instance import claimed
with claimed(Path(sys.argv[1]), Path("/run/other.sock")):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_one_learns_who_has_it(tmp_path: Path) -> None:
    """Process and socket, so that the user can find it."""
    with holder(tmp_path) as process:
        with (
            pytest.raises(AlreadyServed, match=f"pid {process.pid}, socket /run/other.sock"),
            claimed(tmp_path, tmp_path / "qm.sock"),
        ):
            pytest.fail("two daemons have one store")
        process.kill()


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    """The kernel lets go; no file has to be cleaned up by hand."""
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with claimed(tmp_path, tmp_path / "qm.sock"):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()


def test_the_claim_ends_with_its_context(tmp_path: Path) -> None:
    """And the next one finds no stale name in it."""
    with claimed(tmp_path, tmp_path / "one.sock"):
        pass
    assert (tmp_path / LOCK_NAME).read_text() == "{}"
    with claimed(tmp_path, tmp_path / "two.sock"):
        pass


def test_a_torn_lock_file_does_not_matter(tmp_path: Path) -> None:
    """Its text is only for messages."""
    (tmp_path / LOCK_NAME).write_text('{"pid": 1')
    with claimed(tmp_path, tmp_path / "qm.sock"):
        pass
