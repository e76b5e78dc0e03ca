"""One daemon a store: a kernel lock that goes when its holder goes, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qm.store.errors import Conflict

LOCK_NAME = "daemon.lock"
_MAX_BYTES = 4096


class AlreadyServed(Conflict):
    """Another daemon has this store; the message says which."""

    code = "already_served"

    def __init__(self, home: Path, holder: Holder) -> None:
        who = f"pid {holder.pid}, socket {holder.socket}" if holder.pid else "it is still starting"
        super().__init__(f"a daemon already serves the store {home} ({who})")
        self.holder = holder


@dataclass(frozen=True, slots=True)
class Holder:
    """Who serves a store; `pid` is 0 when that is not known yet."""

    pid: int = 0
    socket: str = ""


@contextmanager
def claimed(home: Path, socket: Path) -> Iterator[None]:
    """The store at `home` is this process's while the context lasts. Raises AlreadyServed."""
    fd = os.open(home / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyServed(home, _holder(fd)) from None
        _write(fd, {"pid": os.getpid(), "socket": str(socket)})
        yield
        _write(fd, {})
    finally:
        os.close(fd)


def _write(fd: int, content: dict[str, object]) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(content).encode(), 0)


def _holder(fd: int) -> Holder:
    """What the holder wrote; a moment after it took the lock it has not written yet."""
    try:
        content = json.loads(os.pread(fd, _MAX_BYTES, 0) or b"{}")
    except ValueError:
        return Holder()
    return Holder(int(content.get("pid", 0)), str(content.get("socket", "")))
