"""The end of a log, and its growth."""

from __future__ import annotations

from pathlib import Path

import pytest
from qm.cli.follow import follow, last_lines


@pytest.mark.parametrize("count", [0, 1, 3, 100_000])
def test_the_last_lines(tmp_path: Path, count: int) -> None:
    """As many as asked for, or all; also across the blocks that the file is read in."""
    lines = [f"line {number} {'x' * 40}\n" for number in range(5000)]
    log = tmp_path / "log"
    log.write_text("".join(lines))
    assert last_lines(log, count) == "".join(lines[len(lines) - min(count, 5000) :])


def test_following_goes_on_through_a_rotation(tmp_path: Path) -> None:
    """What is added comes once, from the new file after the old one."""
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    growing = follow(log, 1)
    assert next(growing) == "two\n"
    with log.open("a") as file:
        file.write("three\n")
    assert next(growing) == "three\n"
    log.rename(tmp_path / "log.1")
    log.write_text("four\n")
    assert next(growing) == "four\n"
    growing.close()
