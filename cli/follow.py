"""The end of a log file, and what is added to it."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

POLL_S = 0.1
_BLOCK_BYTES = 65536


def last_lines(path: Path, count: int) -> str:
    """The last `count` lines, read from the end: a log may be large."""
    with path.open("rb") as file:
        return _tail(file, count)


def follow(path: Path, count: int) -> Generator[str, None, None]:
    """The last lines, then whatever is added, through rotations, until the caller stops."""
    file = path.open("rb")
    try:
        yield _tail(file, count)
        while True:
            if added := file.read():
                yield added.decode("utf-8", "replace")
            elif _was_replaced(path, file):
                file.close()
                file = path.open("rb")
            else:
                time.sleep(POLL_S)
    finally:
        file.close()


def _tail(file: BinaryIO, count: int) -> str:
    if count <= 0:
        file.seek(0, 2)
        return ""
    position = end = file.seek(0, 2)
    data = b""
    while position and data.count(b"\n") <= count:
        size = min(_BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        data = file.read(size) + data
    file.seek(end)
    return b"".join(data.splitlines(keepends=True)[-count:]).decode("utf-8", "replace")


def _was_replaced(path: Path, file: BinaryIO) -> bool:
    """Whether the log was rotated: another file has its name, or it was cut short."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(file.fileno())
    return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino) or there.st_size < file.tell()
