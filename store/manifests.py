"""Manifests: what a model's name stands for, as OCI images with Ollama's media types."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from .blobs import BlobMissing, Blobs
from .claims import end_claims
from .durable import replace_file, sync_directory
from .errors import Conflict, NotFound, QmError
from .hashing import digest_text
from .image import MAX_MANIFEST_BYTES, Descriptor, Manifest, ManifestInvalid
from .layout import Layout
from .locks import naming, publishing
from .name import InvalidName, Name

__all__ = [
    "Descriptor",
    "Manifest",
    "ManifestInvalid",
    "ManifestUnreadable",
    "Manifests",
    "ModelNotFound",
    "StoredManifest",
    "Unreadable",
]


class ModelNotFound(NotFound):
    """No model has this name. The message is what Ollama's clients look for, word by word."""

    code = "model_not_found"

    def __init__(self, name: Name, unplugged: tuple[Path, ...] = ()) -> None:
        super().__init__(f"model '{name.short}' not found")
        self.name = name
        self.unplugged = unplugged  # further stores that are not there, and may have it

    @property
    def hint(self) -> str:
        pull = f"try: qm pull {self.name.short}"
        if not self.unplugged:
            return pull
        where = " and ".join(map(str, self.unplugged))
        return f"{where} of QM_STORES can't be read: plug its disk in, or {pull}"


class ModelReadOnly(Conflict):
    """The model is in a store that is only read."""

    code = "model_read_only"


class ManifestUnreadable(QmError):
    """A model's manifest is there, but it can't be read."""

    code = "manifest_unreadable"


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A model as it stands in the store; `digest` is that of the manifest's bytes."""

    name: Name
    manifest: Manifest
    digest: str
    modified_s: float


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file among the manifests that nobody can make sense of."""

    path: Path
    reason: str


@dataclass(slots=True)
class _Read:
    """What was read before, by the state of its file: listings read again only what changed."""

    files: dict[tuple[str, int, int, int, int], StoredManifest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifests:
    """The models of one store. Names are found in any case and keep the case they came in."""

    layout: Layout
    blobs: Blobs
    others: tuple[Layout, ...] = ()  # of stores that are only read
    _read_before: _Read = field(default_factory=_Read, repr=False, compare=False)

    def read(self, name: Name) -> StoredManifest:
        """The model `name`; raises ModelNotFound, ManifestUnreadable or ManifestInvalid."""
        path, stored = self._place(name)
        try:
            return _read(path, stored)
        except FileNotFoundError:  # deleted a moment ago
            raise ModelNotFound(name) from None

    def data(self, name: Name) -> bytes:
        """The exact bytes of the manifest; raises ModelNotFound."""
        path, _ = self._place(name)
        return path.read_bytes()

    def find(self, name: Name) -> Name:
        """The name in the case that it is stored in; raises ModelNotFound, ModelReadOnly."""
        stored = _stored_name(self.layout, name)
        if stored is None:
            self._refuse_read_only(name)
            raise ModelNotFound(name)
        return stored

    def _place(self, name: Name) -> tuple[Path, Name]:
        """Where the manifest is, here before elsewhere; raises ModelNotFound."""
        for layout in (self.layout, *self.others):
            stored = _stored_name(layout, name)
            if stored is not None:
                return layout.manifest(stored), stored
        gone = tuple(layout.root for layout in self.others if not layout.manifests.is_dir())
        raise ModelNotFound(name, gone)

    def _refuse_read_only(self, name: Name) -> None:
        for layout in self.others:
            if _stored_name(layout, name) is not None:
                raise ModelReadOnly(f"model '{name.short}' is in {layout.root}, which is only read")

    def write(
        self,
        name: Name,
        manifest: Manifest,
        *,
        data: bytes | None = None,
        ends_claims: bool = True,
    ) -> StoredManifest:
        """Makes `name` stand for `manifest`, whose blobs must all be here.

        `data` are the exact bytes that a registry sent, so that the digest stays the same.
        `ends_claims`: the writer had claimed the blobs, and needs that no longer.
        """
        data = data or manifest.to_json()
        Manifest.parse(data)  # what nobody can read would stop garbage collection for good
        with publishing(self.layout):
            self._require_blobs(manifest)
            sync_directory(self.layout.blobs)  # a blob may be linked, its directory not yet synced
            with naming(self.layout):
                stored = _stored_name(self.layout, name) or name
                path = self.layout.manifest(stored)
                _make_directories(path.parent, self.layout.manifests)
                replace_file(path, data, temporary_in=self.layout.partial)
                written = _read(path, stored)
            if ends_claims:
                end_claims(self.layout, manifest.blobs())
        return written

    def delete(self, name: Name) -> StoredManifest | None:
        """Removes the model and returns what it was, None if its manifest was unreadable.

        Its blobs stay for garbage collection. Raises ModelNotFound.
        """
        with publishing(self.layout), naming(self.layout):
            path = self.layout.manifest(self.find(name))
            try:
                removed = self.read(name)
            except (ManifestInvalid, ManifestUnreadable):  # removing it is the way out
                removed = None
            path.unlink()
            sync_directory(path.parent)
            _remove_empty(path.parent, self.layout.manifests)
        return removed

    def copy(self, source: Name, destination: Name) -> StoredManifest:
        """A second name for the same model."""
        stored = self.read(source)
        data = self.data(stored.name)
        return self.write(destination, Manifest.parse(data), data=data, ends_claims=False)

    def list(self) -> tuple[list[StoredManifest], list[Unreadable]]:
        """Every model by name, and every file that should be one and is not.

        An unchanged model is the very same object as in the last listing.
        """
        before, now = self._read_before.files, {}
        unreadable: list[Unreadable] = []
        for path, state in _files(str(self.layout.manifests)):
            try:
                now[state] = before.get(state) or self._read(Path(path))
            except FileNotFoundError:  # deleted a moment ago
                continue
            except (InvalidName, ManifestInvalid, ManifestUnreadable) as error:
                unreadable.append(Unreadable(Path(path), error.message))
        self._read_before.files = now
        known = {entry.name.key: entry for entry in (*self._elsewhere(), *now.values())}
        return [known[key] for key in sorted(known)], unreadable

    def _elsewhere(self) -> Iterator[StoredManifest]:
        """The models of the other stores, the first store's last, so that they win."""
        for layout in reversed(self.others):
            for path, _ in _files(str(layout.manifests)):
                with suppress(OSError, InvalidName, ManifestInvalid, ManifestUnreadable):
                    yield _read(Path(path), _name_of(Path(path), layout.manifests))

    def _read(self, path: Path) -> StoredManifest:
        return _read(path, _name_of(path, self.layout.manifests))

    def _require_blobs(self, manifest: Manifest) -> None:
        for descriptor in (manifest.config, *manifest.layers):
            size_bytes = self.blobs.path(descriptor.digest).stat().st_size
            if size_bytes != descriptor.size_bytes:
                raise BlobMissing(
                    f"blob {descriptor.digest} has {size_bytes} bytes, "
                    f"the manifest says {descriptor.size_bytes}"
                )


def _stored_name(layout: Layout, name: Name) -> Name | None:
    """The name under which the model is stored, in the case that it was stored in."""
    if layout.manifest(name).is_file():
        return name
    wanted = name.key
    candidates = [layout.manifests]
    for part in wanted:
        candidates = [
            child for parent in candidates for child in _children(parent) if _same(child, part)
        ]
    files = [path for path in candidates if path.is_file()]
    return _name_of(files[0], layout.manifests) if files else None


def _same(path: Path, part: str) -> bool:
    return path.name.casefold() == part


def _children(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(directory: str) -> Iterator[tuple[str, tuple[str, int, int, int, int]]]:
    """All files below with their state, hidden ones aside: names never start with a dot."""
    try:
        with os.scandir(directory) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
            continue
        with suppress(FileNotFoundError):  # deleted a moment ago
            status = entry.stat(follow_symlinks=False)
            times = status.st_mtime_ns, status.st_ctime_ns
            yield entry.path, (entry.path, status.st_ino, status.st_size, *times)


def _name_of(path: Path, root: Path) -> Name:
    parts = path.relative_to(root).parts
    if len(parts) != 4:
        raise InvalidName(f"not a place for a manifest: {path}")
    return Name(*parts)


def _read(path: Path, name: Name) -> StoredManifest:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ManifestUnreadable(f"can't read {path}: {error.strerror}") from error
    try:
        data = os.read(fd, MAX_MANIFEST_BYTES + 1)
        modified_s = os.fstat(fd).st_mtime
    except OSError as error:
        raise ManifestUnreadable(f"can't read {path}: {error.strerror}") from error
    finally:
        os.close(fd)
    digest = digest_text(sha256(data).hexdigest())
    return StoredManifest(name, Manifest.parse(data), digest, modified_s)


def _make_directories(directory: Path, root: Path) -> None:
    """As `mkdir -p`, with every new directory entry on the disk."""
    if directory.is_dir():
        return
    if directory != root:
        _make_directories(directory.parent, root)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def _remove_empty(directory: Path, root: Path) -> None:
    while directory != root and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent
