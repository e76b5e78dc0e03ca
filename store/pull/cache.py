"""The Hugging Face cache on this machine: what is there needs no download."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

from huggingface_hub import constants

from ..adopt import NotAGguf, SourceChanged
from ..hashing import chunks
from ..store import Store
from ..writer import DigestMismatch

_log = logging.getLogger(__name__)


def from_cache(store: Store, repo: str, digest: str, size_bytes: int) -> bool:
    """Takes the blob over from the cache if it is there and still is what it should be.

    A GGUF is shared with the cache where the file system allows it, other files are copied.
    """
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    path = folder / "blobs" / digest.removeprefix("sha256:")
    if path.is_symlink() or not path.is_file() or path.stat().st_size != size_bytes:
        return False
    found: str | None
    try:
        found = store.blobs.adopt(path).digest
    except NotAGguf:
        found = _copied(store, path, digest, size_bytes)
    except SourceChanged:
        return False
    if found != digest:
        _log.warning("cached_file_is_damaged path=%s", path)
    return found == digest


def _copied(store: Store, path: Path, digest: str, size_bytes: int) -> str | None:
    try:
        file = path.open("rb")
    except PermissionError:
        return None
    with closing(file), store.blobs.writer(digest=digest, size_bytes=size_bytes) as writer:
        if not writer.clone(file.fileno()):
            for data in chunks(file.fileno()):
                writer.write(data)
        try:
            return writer.commit()
        except DigestMismatch:
            return None
