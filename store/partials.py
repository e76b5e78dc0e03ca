"""Unfinished files in `partial/`: whose they are, and when they are nobody's.

A holder keeps a kernel lock on its entry, file or directory, for as long as it works on it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .layout import Layout
from .locks import try_lock

PARTIAL_AGE_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Partial:
    """An unfinished download, build or write."""

    path: Path
    size_bytes: int
    changed_s: float


def list_partials(layout: Layout) -> list[Partial]:
    """Everything unfinished, in use or not; what is finished just now may be missing."""
    found = (_partial(path) for path in sorted(layout.partial.iterdir()))
    return [partial for partial in found if partial is not None]


def expired_partials(layout: Layout, *, now_s: float) -> Iterator[Partial]:
    """What no process holds and nobody will resume. Call it under `collecting`."""
    for partial in list_partials(layout):
        if now_s - partial.changed_s >= _age_limit_s(partial.path) and not _is_locked(partial.path):
            yield partial


def remove_partial(partial: Partial) -> None:
    if partial.path.is_dir():
        shutil.rmtree(partial.path)
    else:
        partial.path.unlink(missing_ok=True)


def _age_limit_s(path: Path) -> float:
    """Plain writes, and second names of files to be adopted, can't be resumed."""
    ends_with_its_process = path.name.startswith(("write-", "replace-", "link-"))
    return float("-inf") if ends_with_its_process else PARTIAL_AGE_S


def _partial(path: Path) -> Partial | None:
    """None for one that was put away a moment ago."""
    try:
        files = [path, *path.rglob("*")] if path.is_dir() else [path]
        statuses = [file.lstat() for file in files]
    except FileNotFoundError:
        return None
    size_bytes = 0 if path.name.startswith("link-") else sum(_disk_bytes(s) for s in statuses)
    return Partial(path, size_bytes, max(status.st_ctime for status in statuses))


def _disk_bytes(status: os.stat_result) -> int:
    """What the file takes on the disk: partial downloads have holes."""
    return status.st_blocks * 512


def _is_locked(path: Path) -> bool:
    if path.is_symlink() and path.name.startswith("link-"):  # of a file to be used in place
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # a symbolic link or a file of somebody else: not ours to judge
        return True
    try:
        return not try_lock(fd)
    finally:
        os.close(fd)
