"""Where things lie in the store: the only place that turns digests and names into paths."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .durable import sync_directory
from .errors import InvalidRequest
from .name import Name

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BLOB_FILE = re.compile(r"sha256-[0-9a-f]{64}")
_SHOWN_CHARACTERS = 100


class InvalidDigest(InvalidRequest):
    """A digest that is not `sha256:` and 64 lower-case hexadecimal digits."""

    code = "invalid_digest"


def parse_digest(text: str) -> str:
    """`text` itself when it is a digest; nothing else may become part of a path."""
    if not _DIGEST.fullmatch(text):
        raise InvalidDigest(f"invalid digest {text[:_SHOWN_CHARACTERS]!r}: want sha256:<64 hex>")
    return text


def digest_of_file_name(file_name: str) -> str | None:
    """The digest that a blob's file name stands for, None for any other file."""
    if not _BLOB_FILE.fullmatch(file_name):
        return None
    return file_name.replace("-", ":", 1)


@dataclass(slots=True)
class Layout:
    """The paths below one store's root.

    A process has one for its store, shared by all: when the store moves, `root` changes, under the
    store's lock.
    """

    root: Path

    @property
    def blobs(self) -> Path:
        """Published blobs, named by digest, never written again."""
        return self.root / "blobs"

    @property
    def manifests(self) -> Path:
        """`host/namespace/model/tag`, one JSON file per model."""
        return self.root / "manifests"

    @property
    def partial(self) -> Path:
        """What is still being written; a holder keeps a kernel lock on it."""
        return self.root / "partial"

    @property
    def leases(self) -> Path:
        """One file per holder, kernel-locked while the holder lives."""
        return self.root / "leases"

    @property
    def claims(self) -> Path:
        """Blobs that were just published and wait for their manifest, by age."""
        return self.root / "claims"

    @property
    def watched(self) -> Path:
        """What adopted files looked like when they were hashed."""
        return self.root / "watched"

    @property
    def origins(self) -> Path:
        """Where downloaded blobs came from."""
        return self.root / "origins"

    @property
    def kv(self) -> Path:
        """Snapshots of KV caches, evictable."""
        return self.root / "kv"

    @property
    def steps(self) -> Path:
        """Which blob each step of a build made, by the step's key; evictable."""
        return self.root / "steps"

    @property
    def facts(self) -> Path:
        """What was measured of weights, by digest; can be measured again."""
        return self.root / "facts"

    @property
    def trash(self) -> Path:
        """What garbage collection took out of sight and is about to unlink."""
        return self.root / "trash"

    @property
    def alternates(self) -> Path:
        """Roots of other stores, one a line, that are read besides this one."""
        return self.root / "alternates"

    @property
    def lock(self) -> Path:
        """Shared by publishers, exclusive to garbage collection."""
        return self.root / "lock"

    @property
    def names_lock(self) -> Path:
        """Held while manifests change, so that names stay unique in any case."""
        return self.root / "names.lock"

    def blob(self, digest: str) -> Path:
        return self.blobs / _file_name(digest)

    def claim(self, digest: str) -> Path:
        return self.claims / _file_name(digest)

    def watch(self, digest: str) -> Path:
        return self.watched / _file_name(digest)

    def origin(self, digest: str) -> Path:
        return self.origins / _file_name(digest)

    def trashed(self, digest: str) -> Path:
        return self.trash / _file_name(digest)

    def facts_of(self, digest: str) -> Path:
        return self.facts / f"{_file_name(digest)}.json"

    def manifest(self, name: Name) -> Path:
        return self.manifests / name.host / name.namespace / name.model / name.tag

    def create(self) -> None:
        """Makes the directories, and has them on the disk; the root is private when made here."""
        if all(directory.is_dir() for directory in self.directories()):
            return
        new = [path.parent for path in self.root.parents if not path.exists()]
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in self.directories():
            directory.mkdir(mode=0o755, exist_ok=True)
        for directory in (self.root, self.root.parent, *new):
            if os.access(directory, os.R_OK):  # else one may enter it, but not read it
                sync_directory(directory)

    def directories(self) -> tuple[Path, ...]:
        """All that a store consists of, a few files beside them aside."""
        return (
            *(self.blobs, self.manifests, self.partial, self.leases, self.claims, self.watched),
            *(self.origins, self.kv, self.steps, self.facts, self.trash),
        )


def _file_name(digest: str) -> str:
    return parse_digest(digest).replace(":", "-", 1)
