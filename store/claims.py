"""Claims: blobs that were uploaded or adopted and wait for the manifest that will name them.

A lease ends with its process; a claim bridges two requests (`POST /api/blobs`, then
`POST /api/create`). It ends when a manifest names the blob, or by age.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from .durable import disk_error
from .layout import Layout, digest_of_file_name

CLAIM_AGE_S = 3600.0


def claim(layout: Layout, digest: str) -> None:
    """Keeps the blob for CLAIM_AGE_S from now. Call it under `publishing`."""
    try:
        fd = os.open(layout.claim(digest), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.utime(fd)  # through the descriptor: somebody may drop the claim meanwhile
        finally:
            os.close(fd)
    except OSError as error:
        raise disk_error(error, f"claiming {digest}", 0) from error


def drop_claims(layout: Layout, digests: Iterable[str]) -> None:
    """Ends the claims on blobs that a manifest names by now."""
    for digest in digests:
        layout.claim(digest).unlink(missing_ok=True)


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
