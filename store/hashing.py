"""SHA-256 of open files, with progress."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

CHUNK_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


def chunks(fd: int, on_progress: Progress | None = None) -> Iterator[bytes]:
    """The bytes that the file has now, from its start; what is appended meanwhile stays out."""
    total = os.fstat(fd).st_size
    offset = 0
    while data := os.pread(fd, min(CHUNK_BYTES, total - offset), offset):
        offset += len(data)
        yield data
        if on_progress is not None:
            on_progress(offset, total)


def hash_file(fd: int, on_progress: Progress | None = None) -> str:
    """The file's digest, as `sha256:<hex>`."""
    hasher = hashlib.sha256()
    for data in chunks(fd, on_progress):
        hasher.update(data)
    return digest_text(hasher.hexdigest())


def digest_text(hexadecimal: str) -> str:
    return f"sha256:{hexadecimal}"


def git_oid(data: bytes) -> str:
    """What git calls a file with these bytes (gitformat-object: "blob", size, NUL, content)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
