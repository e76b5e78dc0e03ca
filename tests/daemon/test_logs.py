"""One line an event, whatever is in it."""

from __future__ import annotations

import logging
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from qm.daemon import logs


@pytest.fixture(autouse=True)
def closed_logs() -> Iterator[None]:
    """Nothing of a test's log stays."""
    level = logging.getLogger().level
    yield
    logs.stop_logging()
    logging.captureWarnings(False)
    logging.getLogger().setLevel(level)


def start(path: Path, *, level: str = "info", max_bytes: int = 1 << 20) -> logs.Log:
    logs.start_logging(path, level=level, max_bytes=max_bytes, to_stderr=False)
    return logs.Log("test")


def test_an_event_is_one_line_of_facts(tmp_path: Path) -> None:
    """Time, level, part, event, then what the caller knows."""
    path = tmp_path / "logs" / "daemon.log"
    start(path).info("model_loaded", model="smol:latest", seconds=1.23456, pid=7)
    line = path.read_text()
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info part=test event=model_loaded "
        r"model=smol:latest seconds=1\.235 pid=7\n",
        line,
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("two words", '"two words"'),
        ("", '""'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("line\nbreak", r'"line\nbreak"'),
        ("\x1b[31m", r'"\x1b[31m"'),
        ("naïve", "naïve"),
    ],
)
def test_nothing_in_a_fact_breaks_the_line(tmp_path: Path, value: str, written: str) -> None:
    """A client's text must not forge an event or move a terminal's cursor."""
    path = tmp_path / "daemon.log"
    start(path).warning("event", fact=value)
    (line,) = path.read_text().splitlines()
    assert line.endswith(f" fact={written}")


def test_an_exception_comes_with_its_traceback(tmp_path: Path) -> None:
    """Still on one line."""
    path = tmp_path / "daemon.log"
    log = start(path)
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        log.exception("request_failed", id="abc")
    (line,) = path.read_text().splitlines()
    assert "id=abc" in line
    assert r"ValueError: broken\nin two" in line


def test_a_level_hides_what_is_below(tmp_path: Path) -> None:
    """As QM_LOG_LEVEL says."""
    path = tmp_path / "daemon.log"
    log = start(path, level="warning")
    log.info("quiet")
    log.error("loud")
    assert "quiet" not in path.read_text()
    assert "loud" in path.read_text()


def test_the_log_is_rotated_and_bounded(tmp_path: Path) -> None:
    """A daemon that runs for months fills no disk."""
    path = tmp_path / "daemon.log"
    log = start(path, max_bytes=1000)
    for number in range(200):
        log.info("event", number=number)
    files = sorted(tmp_path.glob("daemon.log*"))
    assert len(files) == 1 + logs.KEPT_FILES
    assert all(one.stat().st_size <= 1000 for one in files)
    assert "number=199" in path.read_text()


def test_the_log_is_private(tmp_path: Path) -> None:
    """Under any umask."""
    path = tmp_path / "daemon.log"
    start(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_events_before_the_log_is_open_print_nothing() -> None:
    """A daemon that can't start says why in its own words, without bare event names beside them."""
    code = "from qm.daemon.logs import Log; Log('test').error('not_served', error='why')"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")
