"""Claims: blobs that were uploaded or adopted and wait for the manifest that will name them.

A lease ends with its process; a claim bridges two requests (`POST /api/blobs`, then
`POST /api/create`). It ends when a manifest names the blob, or by age. Several clients may claim
one blob, and each ends one claim with its manifest: the size of the file counts them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .durable import disk_error
from .layout import Layout, digest_of_file_name

CLAIM_AGE_S = 3600.0


def claim(layout: Layout, digest: str) -> None:
    """Keeps the blob for CLAIM_AGE_S from now. Call it under `publishing`."""
    try:
        with _alone(layout.claim(digest), os.O_CREAT) as fd:
            os.ftruncate(fd, os.fstat(fd).st_size + 1)
            os.utime(fd)
    except OSError as error:
        raise disk_error(error, f"claiming {digest}", 0) from error


def end_claims(layout: Layout, digests: Iterable[str]) -> None:
    """Ends one claim on each of the blobs that a manifest names by now."""
    for digest in digests:
        path = layout.claim(digest)
        with suppress(FileNotFoundError), _alone(path) as fd:
            left = os.fstat(fd).st_size - 1
            if left > 0:
                os.ftruncate(fd, left)
            else:
                path.unlink()


def drop_claims(layout: Layout, digests: Iterable[str]) -> None:
    """Ends all claims on the blobs. Call it under `collecting`."""
    for digest in digests:
        layout.claim(digest).unlink(missing_ok=True)


@contextmanager
def _alone(path: Path, flags: int = 0) -> Iterator[int]:
    """The claim's file, which nobody else counts in meanwhile. Raises FileNotFoundError."""
    while True:
        fd = os.open(path, os.O_RDWR | flags, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # held for a moment only
            if os.fstat(fd).st_nlink:  # else it ended between opening and locking
                yield fd
                return
        finally:
            os.close(fd)


def claimed_digests(layout: Layout, *, now_s: float) -> frozenset[str]:
    """What is claimed and not too old at the wall-clock time `now_s`."""
    return frozenset(digest for digest, age_s in _claims(layout, now_s) if age_s < CLAIM_AGE_S)


def sweep_claims(layout: Layout, *, now_s: float) -> None:
    """Removes the claims that are too old. Call it under `collecting`."""
    drop_claims(
        layout, [digest for digest, age_s in _claims(layout, now_s) if age_s >= CLAIM_AGE_S]
    )


def _claims(layout: Layout, now_s: float) -> Iterator[tuple[str, float]]:
    """Every claimed digest with the age of its claim in seconds."""
    with os.scandir(layout.claims) as entries:
        for entry in entries:
            digest = digest_of_file_name(entry.name)
            if digest is not None:
                with suppress(FileNotFoundError):  # its manifest was written a moment ago
                    yield digest, now_s - entry.stat().st_mtime
