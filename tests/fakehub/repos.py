"""The served folder: repositories, their revisions, and the ids that a hub gives their files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LFS_SUFFIXES = {".gguf", ".safetensors", ".bin", ".onnx", ".pt", ".pth", ".h5", ".npz", ".gz"}
CONFIG = ".fakehub.json"


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of a repository."""

    file: Path
    path: str
    size: int
    oid: str  # git object id: of the content, or of the LFS pointer
    sha256: str | None  # set for LFS files only
    pointer_size: int = 0

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    def lfs_json(self, key: str) -> dict[str, object] | None:
        if self.sha256 is None:
            return None
        return {key: self.sha256, "size": self.size, "pointerSize": self.pointer_size}


class Repos:
    """The folder, read anew at each question; digests are kept."""

    def __init__(self, root: Path, lfs_bytes: int) -> None:
        self.root, self.lfs_bytes = root, lfs_bytes
        self._known: dict[tuple[Path, str, int, int], Blob] = {}

    def ids(self) -> list[str]:
        found = (path for path in self.root.glob("*/*") if path.is_dir() and "@" not in path.name)
        return sorted(f"{path.parent.name}/{path.name}" for path in found)

    def config(self, repo: str) -> dict[str, Any]:
        try:
            config: dict[str, Any] = json.loads((self.root / repo / CONFIG).read_text())
        except FileNotFoundError:
            return {}
        return config

    def revisions(self, repo: str) -> dict[str, Path]:
        org, name = repo.split("/")
        others = [path for path in (self.root / org).glob(f"{name}@*") if path.is_dir()]
        named = {path.name.split("@", 1)[1].replace("~", "/"): path for path in others}
        return {"main": self.root / repo, **named}

    def snapshot(self, repo: str, revision: str) -> tuple[str, dict[str, Blob]] | None:
        """(commit, files) of a branch, a tag or a whole commit id."""
        revisions = self.revisions(repo)
        if folder := revisions.get("main" if revision == "HEAD" else revision):
            files = self._files(folder)
            return _commit(repo, files), files
        for folder in revisions.values():
            files = self._files(folder)
            if _commit(repo, files) == revision:
                return revision, files
        return None

    def _files(self, folder: Path) -> dict[str, Blob]:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CONFIG)
        blobs = (self._blob(path, path.relative_to(folder).as_posix()) for path in paths)
        return {blob.path: blob for blob in blobs}

    def _blob(self, file: Path, path: str) -> Blob:
        status = file.stat()
        key = (file, path, status.st_size, status.st_mtime_ns)
        if key not in self._known:
            is_lfs = status.st_size >= self.lfs_bytes or file.suffix in LFS_SUFFIXES
            self._known[key] = _lfs_blob(file, path) if is_lfs else _git_blob(file, path)
        return self._known[key]


def _commit(repo: str, files: dict[str, Blob]) -> str:
    listing = "\n".join(f"{blob.oid} {blob.path}" for blob in files.values())
    return hashlib.sha1(f"{repo}\n{listing}".encode()).hexdigest()


def _git_blob(file: Path, path: str) -> Blob:
    data = file.read_bytes()
    return Blob(file, path, len(data), _git_oid(data), None)


def _lfs_blob(file: Path, path: str) -> Blob:
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    size = file.stat().st_size
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return Blob(file, path, size, _git_oid(pointer.encode()), sha256, len(pointer))


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
