"""`qm export`: a model as GGUF files, or as a store that Ollama reads."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from qm.store.durable import clone, disk_error, replace_file, sync_directory, sync_file
from qm.store.errors import Conflict, InvalidRequest
from qm.store.hashing import chunks
from qm.store.image import ADAPTER_TYPE, MODEL_TYPE, PROJECTOR_TYPE, Descriptor
from qm.store.layout import Layout
from qm.store.leases import hold
from qm.store.manifests import StoredManifest
from qm.store.name import DEFAULT_TAG, Name
from qm.store.store import Store

Progress: TypeAlias = Callable[[dict[str, object]], None]

_ADDITIONS = {PROJECTOR_TYPE: "mmproj", ADAPTER_TYPE: "adapter"}


class AlreadyThere(Conflict):
    """A file has the name that an exported one would get; it is not written over."""

    code = "already_there"


class NoFiles(InvalidRequest):
    """The model has no files to export."""

    code = "no_files"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, in order."""

    paths: tuple[Path, ...]
    size_bytes: int


def export_files(store: Store, name: Name, target: Path, on_progress: Progress) -> Exported:
    """The model's GGUF at `target`, or all of its files in there when that is a folder.

    Raises ModelNotFound, BlobMissing, AlreadyThere, NoFiles, StoreFull.
    """
    stored = store.manifests.read(name)
    with hold(store.layout, stored.manifest.blobs()):
        files = list(_files(stored, target))
        if not files:
            raise NoFiles(f"model '{stored.name.short}' has no GGUF")
        if not target.is_dir() and len(files) > 1:
            raise NoFiles(f"'{stored.name.short}' is {len(files)} files; name a folder that exists")
        for path, layer in files:
            _copy(store.blobs.path(layer.digest), path, layer, on_progress)
    return Exported(tuple(path for path, _ in files), sum(layer.size_bytes for _, layer in files))


def export_store(store: Store, name: Name, target: Path, on_progress: Progress) -> Exported:
    """The model in a store at `target` that Ollama reads (`OLLAMA_MODELS=target`)."""
    stored = store.manifests.read(name)
    with hold(store.layout, stored.manifest.blobs()):
        theirs = Layout(target)
        manifest_path = theirs.manifest(stored.name)
        _make_folders(theirs.blobs, manifest_path.parent)
        written = []
        for layer in (stored.manifest.config, *stored.manifest.layers):
            path = theirs.blob(layer.digest)
            if not (path.is_file() and path.stat().st_size == layer.size_bytes):
                _copy(store.blobs.path(layer.digest), path, layer, on_progress, link=True)
                written.append(layer.size_bytes)
        data = store.manifests.data(stored.name)
        replace_file(manifest_path, data, temporary_in=manifest_path.parent)
    return Exported((manifest_path,), sum(written))


def _files(stored: StoredManifest, target: Path) -> Iterator[tuple[Path, Descriptor]]:
    """Where each file of the model goes."""
    weights = stored.manifest.layers_of(MODEL_TYPE)
    additions = [layer for layer in stored.manifest.layers if layer.media_type in _ADDITIONS]
    if not target.is_dir():
        yield from ((target, layer) for layer in (*weights, *additions))
        return
    stem = stored.name.model
    if stored.name.tag != DEFAULT_TAG:
        stem += f"-{stored.name.tag}"
    for number, layer in enumerate(weights, 1):
        part = f"-{number:05}-of-{len(weights):05}" if len(weights) > 1 else ""
        yield target / f"{stem}{part}.gguf", layer
    for number, layer in enumerate(additions, 1):
        yield target / f"{_ADDITIONS[layer.media_type]}-{number}-{stem}.gguf", layer


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, f"making {folder}") from error


def _copy(
    source: Path, target: Path, layer: Descriptor, on_progress: Progress, *, link: bool = False
) -> None:
    """The blob's bytes at `target`, shared where that is safe; never over another file.

    A hard link is for stores alone (`link`): nobody writes into the files of one.
    """
    temporary = target.with_name(f".{target.name}.qm-{secrets.token_hex(4)}")
    try:
        if not (link and _linked(source, temporary)):
            _write(source, temporary, layer, on_progress)
        os.link(temporary, target)
        sync_directory(target.parent)
    except FileExistsError as error:
        raise AlreadyThere(
            f"{target} is there already; remove it or choose another name"
        ) from error
    except OSError as error:
        raise disk_error(error, f"exporting to {target}", layer.size_bytes) from error
    finally:
        temporary.unlink(missing_ok=True)


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another disk, or one without links: the bytes are copied
        return False
    if target.is_symlink():  # a file that is used in place stays its owner's
        target.unlink()
        return False
    return True


def _write(source: Path, target: Path, layer: Descriptor, on_progress: Progress) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        if not clone(writer.fileno(), reader.fileno()):
            done = 0
            for data in chunks(reader.fileno()):
                writer.write(data)
                done += len(data)
                on_progress(
                    {
                        "status": f"exporting {target.name[1:].partition('.qm-')[0]}",
                        "total": layer.size_bytes,
                        "completed": done,
                    }
                )
        writer.flush()
        sync_file(writer.fileno())
