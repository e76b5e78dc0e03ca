"""The Hugging Face cache on this machine: what is there needs no download."""

from __future__ import annotations

import logging
import re
from contextlib import closing
from pathlib import Path

from huggingface_hub import constants

from ..adopt import NotAGguf, SourceChanged
from ..errors import Unavailable
from ..hashing import chunks, git_oid
from ..store import Store
from ..writer import DigestMismatch
from .choose import RepoFile
from .reference import COMMIT

_log = logging.getLogger(__name__)
_DIGEST = re.compile(r"[0-9a-f]{64}")


class NotCached(Unavailable):
    """Offline mode is on, and the repository is not on this machine."""

    code = "not_cached"


def cached_files(repo: str, revision: str) -> tuple[str, tuple[RepoFile, ...]]:
    """The commit that the cache has for the revision, and its files there. Raises NotCached."""
    folder = _folder(repo)
    commit = revision if COMMIT.fullmatch(revision) else _commit(folder, revision)
    snapshot = folder / "snapshots" / commit
    if not commit or not snapshot.is_dir():
        raise NotCached(
            f"offline mode is on (HF_HUB_OFFLINE), and the cache {constants.HF_HUB_CACHE} has no "
            f"{repo} at {revision!r}"
        )
    found = (_cached_file(path, snapshot) for path in sorted(snapshot.rglob("*")))
    return commit, tuple(file for file in found if file is not None)


def small_from_cache(repo: str, file: RepoFile) -> bytes | None:
    """The bytes of a file that is no large one, if the cache has them as they should be."""
    if not COMMIT.fullmatch(file.git_oid):
        return None
    path = _folder(repo) / "blobs" / file.git_oid
    try:
        if path.is_symlink() or path.stat().st_size != file.size_bytes:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return data if git_oid(data) == file.git_oid else None


def _folder(repo: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _commit(folder: Path, revision: str) -> str:
    try:
        commit = (folder / "refs" / revision).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return commit if COMMIT.fullmatch(commit) else ""


def _cached_file(path: Path, snapshot: Path) -> RepoFile | None:
    """By the name of the blob that it links to, which is its digest or its git object id."""
    try:
        size_bytes, name = path.stat().st_size, path.resolve().name
    except OSError:
        return None
    if not path.is_file() or not (_DIGEST.fullmatch(name) or COMMIT.fullmatch(name)):
        return None
    digest = f"sha256:{name}" if _DIGEST.fullmatch(name) else None
    where = path.relative_to(snapshot).as_posix()
    return RepoFile(where, size_bytes, digest, "" if digest else name)


def from_cache(store: Store, repo: str, digest: str, size_bytes: int) -> bool:
    """Takes the blob over from the cache if it is there and still is what it should be.

    A GGUF is shared with the cache where the file system allows it, other files are copied.
    """
    path = _folder(repo) / "blobs" / digest.removeprefix("sha256:")
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
