"""Kernel locks on long-lived descriptors: they end with the process, whatever ends it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import Unavailable
from .layout import Layout

WAIT_LIMIT_S = 60.0
_POLL_S = 0.005


class StoreBusy(Unavailable):
    """Another process holds the store's lock for too long."""

    code = "store_busy"


@contextmanager
def publishing(layout: Layout) -> Iterator[None]:
    """Keeps garbage collection out while blobs, leases or manifests appear. Many at once."""
    with _locked(lambda: layout.lock, fcntl.LOCK_SH):
        yield


@contextmanager
def collecting(layout: Layout) -> Iterator[None]:
    """Has the store alone: nobody publishes meanwhile."""
    with _locked(lambda: layout.lock, fcntl.LOCK_EX):
        yield


@contextmanager
def naming(layout: Layout) -> Iterator[None]:
    """Has the names alone: one change of a manifest at a time."""
    with _locked(lambda: layout.names_lock, fcntl.LOCK_EX):
        yield


def try_lock(fd: int) -> bool:
    """Takes the lock of an open file for as long as `fd` stays open; False if another has it."""
    return _try(fd, fcntl.LOCK_EX)


def try_share(fd: int) -> bool:
    """The same together with others who share; False if somebody wants it alone."""
    return _try(fd, fcntl.LOCK_SH)


def _try(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(lock: Callable[[], Path], kind: int) -> Iterator[None]:
    """Takes the lock of the place where the store is by then: it may move while we wait."""
    while True:
        path = lock()
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _wait(fd, kind, path)
            if path == lock():
                yield
                return
        finally:
            os.close(fd)


def _wait(fd: int, kind: int, path: Path) -> None:
    """Polls, because a blocking flock has no time limit and its holder may be stopped."""
    deadline = time.monotonic() + WAIT_LIMIT_S
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreBusy(f"another process holds {path}; try again later") from None
            time.sleep(_POLL_S)
        else:
            return
