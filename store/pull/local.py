"""Models that other programs keep on this disk: found by how their folders are laid out.

Ollama (and qm)   manifests/host/namespace/model/tag and blobs/sha256-…
Hugging Face      models--org--repo/snapshots/commit/….gguf
LM Studio         publisher/repo/….gguf
anything else     ….gguf
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import NotFound, QmError
from ..image import MAX_MANIFEST_BYTES, Manifest
from ..layout import Layout
from ..name import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, InvalidName, Name

HUB = "hf.co"
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
_QUANT = re.compile(r"(?i)(?:^|[-._])((?:IQ|Q|TQ)\d[A-Z0-9_]*|BF16|F16|F32|MXFP4[A-Z0-9_]*)$")
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")
_MOST_CHARACTERS = 80
_MOST_FILES = 20_000


class NothingThere(NotFound):
    """The path to import from does not exist or can't be read."""

    code = "nothing_there"


@dataclass(frozen=True, slots=True)
class FoundImage:
    """A model of an Ollama store (or of another of ours): a manifest and its blobs."""

    name: Name
    data: bytes
    manifest: Manifest
    layout: Layout

    @property
    def size_bytes(self) -> int:
        manifest = self.manifest
        return sum(each.size_bytes for each in (manifest.config, *manifest.layers))


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """A model of GGUF files: its parts in order, then a projector if one lies beside them."""

    name: Name
    files: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something that looks like a model and can't be one; says why."""

    path: Path
    reason: str


Found = FoundImage | FoundFiles | Unusable


def find_models(path: Path) -> Iterator[Found]:
    """Every model at or below `path`. Raises NothingThere."""
    try:
        if path.is_file():
            yield from _grouped([path], path.parent)
            return
        os.listdir(path)  # noqa: PTH208  only asks whether it can be
    except OSError as error:
        raise NothingThere(f"can't import from {path}: {error.strerror}") from error
    if (path / "manifests").is_dir() and (path / "blobs").is_dir():
        yield from _images(Layout(path))
    elif repositories := sorted((*path.glob("models--*"), *path.glob("hub/models--*"))):
        for repository in repositories:
            yield from _of_hub(repository)
    else:
        yield from _grouped(_ggufs(path), path)


def _images(layout: Layout) -> Iterator[Found]:
    for path in sorted(layout.manifests.glob("*/*/*/*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                data = file.read(MAX_MANIFEST_BYTES + 1)
            name = Name(*path.relative_to(layout.manifests).parts)
            yield FoundImage(name, data, Manifest.parse(data), layout)
        except OSError as error:
            yield Unusable(path, f"its manifest can't be read: {error.strerror}")
        except QmError as error:
            yield Unusable(path, error.message)


def _of_hub(repository: Path) -> Iterator[Found]:
    """The newest snapshot of a cached repository; others are former states of it."""
    snapshots = sorted((repository / "snapshots").glob("*/"), key=lambda path: path.stat().st_mtime)
    if snapshots:
        yield from _grouped(_ggufs(snapshots[-1]), repository)


def _ggufs(folder: Path) -> list[Path]:
    """Files that end in .gguf, hidden folders aside; links to folders are not followed."""
    found: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = [name for name in files if name.lower().endswith(".gguf") and name[0] != "."]
        found += [Path(where) / name for name in sorted(names)]
        if len(found) > _MOST_FILES:
            break
    return found


def _grouped(paths: Iterable[Path], root: Path) -> Iterator[Found]:
    """Files as models: parts together, projectors with the models of their folder."""
    models: defaultdict[tuple[Path, str], list[Path]] = defaultdict(list)
    projectors: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if "mmproj" in path.name.lower():
            projectors[path.parent].append(path)
        else:
            part = _PART.fullmatch(path.stem)
            models[(path.parent, part[1] if part else path.stem)].append(path)
    for (folder, stem), files in models.items():
        yield _model(files, stem, projectors[folder][:1], root)
    for folder, files in projectors.items():
        if not any(where == folder for where, _ in models):
            yield Unusable(files[0], "a projector without a model beside it")


def _model(files: list[Path], stem: str, projectors: list[Path], root: Path) -> Found:
    part = _PART.fullmatch(files[0].stem)
    if part is not None and len(files) != int(part[3]):
        return Unusable(files[0], f"{len(files)} of its {int(part[3])} parts are there")
    try:
        name = _name(files[0], stem, root)
        real = tuple(path.resolve(strict=True) for path in (*sorted(files), *projectors))
    except InvalidName as error:
        return Unusable(files[0], error.message)
    except OSError as error:
        return Unusable(files[0], f"it can't be read: {error.strerror}")
    return FoundFiles(name, real)


def _name(path: Path, stem: str, root: Path) -> Name:
    """What the model shall be called, from where its file lies."""
    quant = _QUANT.search(stem)
    tag = quant[1].upper() if quant else None
    if root.name.startswith("models--"):
        organisation, _, repository = root.name.removeprefix("models--").rpartition("--")
        return Name(
            HUB, organisation.replace("--", "-") or DEFAULT_NAMESPACE, repository, tag or _fit(stem)
        )
    folders = path.relative_to(root).parts[:-1]
    if len(folders) >= 2:
        return Name(DEFAULT_HOST, _fit(folders[-2], "-"), _fit(folders[-1]), tag or _fit(stem))
    model = _fit(stem[: quant.start()] if quant and quant.start() else stem)
    return Name(DEFAULT_HOST, DEFAULT_NAMESPACE, model, tag or DEFAULT_TAG)


def _fit(text: str, dot: str = ".") -> str:
    """The text with what no name may have replaced."""
    fit = _UNFIT.sub("-", text).replace(".", dot).strip("-.")
    return fit[:_MOST_CHARACTERS]
