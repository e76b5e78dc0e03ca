"""The files on this machine that a Modelfile names, and how they come into the store."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import click
from qm.store.errors import InvalidRequest

from .client import Client
from .progress import Progress
from .table import size_text

if TYPE_CHECKING:
    from qm.modelfiles.spec import ModelSpec, Source

PATH_STARTS = ("/", "./", "../", "~")
BESIDE_PATTERNS = ("*.json", "*.model", "*.txt", "*.jinja", "README.md", "*_Pooling/*.json")
REPOSITORY_PATTERNS = ("*.safetensors", *BESIDE_PATTERNS)
PICKLE_PATTERNS = ("*.bin", "*.pth", "*.pt")
_SENT_BYTES = 64 << 20  # what is larger and no model is no file for a build


class MissingFile(InvalidRequest):
    """A file that the command or its Modelfile names isn't there, or is of no use."""

    code = "missing_file"


def with_repository_files(spec: ModelSpec, folder: Path) -> ModelSpec:
    """The spec with every file of a Hugging Face repository in the place of its directory.

    Raises MissingFile for a directory of which nobody could say what to take.
    """
    sources: list[Source] = []
    for source in spec.from_:
        path = located(source, folder)
        converts = bool(spec.quantize or spec.deltas)
        if source.is_hub or not path.is_dir() or not _is_repository(path, converts):
            sources.append(source)
            continue
        sources += _files_of(source, path)
    return replace(
        spec,
        from_=tuple(sources),
        deltas=tuple(_expanded(spec.deltas, folder)),
        adapters=tuple(_expanded(spec.adapters, folder)),
        imatrix_file=spec.imatrix_file and _beside_base(spec, spec.imatrix_file, folder),
        drafts=tuple(_expanded(spec.drafts, folder)),
    )


def _beside_base(spec: ModelSpec, source: Source, folder: Path) -> Source:
    """A file that isn't here but may be in the repository that FROM names."""
    from qm.store.pull.reference import parse_reference

    text = source.text
    if source.is_hub or text.startswith(PATH_STARTS) or located(source, folder).exists():
        return source
    base = spec.from_[-1]
    if base.is_hub:
        reference = parse_reference(base.text)
        return replace(source, text=f"hf.co/{reference.repo}/{text}@{reference.revision}")
    if (located(base, folder) / text).is_file():
        return replace(source, text=f"{base.text.rstrip('/')}/{text}")
    return source


def _expanded(sources: tuple[Source, ...], folder: Path) -> Iterator[Source]:
    """The files of directories with safetensors; what else there is stays what it is."""
    for source in sources:
        path = located(source, folder)
        if source.is_hub:
            yield source
        elif path.is_dir() and any(path.glob("*.safetensors")):
            yield from _files_of(source, path)
        elif path.is_dir() and not any(path.glob("*.gguf")):
            _refuse_pickles(path)
            yield source
        else:
            yield source


def _files_of(source: Source, path: Path) -> Iterator[Source]:
    found = {file for glob in REPOSITORY_PATTERNS for file in path.glob(glob)}
    for file in sorted(found):
        if file.exists() and not file.is_file():  # a pipe would be waited for
            continue
        name = file.relative_to(path).as_posix()
        yield replace(source, text=f"{source.text.rstrip('/')}/{name}")


def local_files(spec: ModelSpec, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files on this machine that the spec names, by the text that names them.

    Raises MissingFile; a FROM or a DRAFT that names no file is a model's name.
    """
    sources = [*spec.from_, *spec.drafts, *spec.adapters, *spec.deltas]
    sources += [each for each in (spec.calibration, spec.imatrix_file) if each]
    models = (*spec.from_, *spec.drafts)
    for source in sources:
        path = located(source, folder)
        if source.is_hub:
            continue
        if _holds_files(path, source.text):
            yield source.text, _one_file(path)
        elif source not in models or is_path(source.text):
            where = f"line {source.line}: " if source.line else ""
            raise MissingFile(f"{where}no such file: {path}")


def is_path(text: str) -> bool:
    return text.startswith(PATH_STARTS) or text in (".", "..") or text.lower().endswith(".gguf")


def bring_all(client: Client, files: Mapping[str, Path]) -> dict[str, str]:
    """The digests of files that are in the store now; small ones go while weights are read."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        small = {text: path for text, path in files.items() if not _is_weights(path)}
        sent = {text: pool.submit(_send, client, path) for text, path in small.items()}
        large = {text: path for text, path in files.items() if text not in small}
        adopted = {text: _adopt(client, path) for text, path in large.items()}
        return adopted | {text: each.result() for text, each in sent.items()}


def bring(client: Client, path: Path) -> str:
    """The digest of a file that is in the store now: weights by path, small files as bytes."""
    path = path.absolute()
    return _adopt(client, path) if _is_weights(path) else _send(client, path)


def _adopt(client: Client, path: Path) -> str:
    with client.stream("/qm/adopt", {"path": str(path)}) as items:
        result = Progress(sys.stderr).follow(items)
    how, size = result.get("how", ""), size_text(result.get("size", 0))
    click.echo(f"{path.name}: {size}, {how}" if how else f"{path.name}: {size}", err=True)
    return str(result["digest"])


def _send(client: Client, path: Path) -> str:
    try:
        with path.open("rb") as file:  # it may be a pipe or a device, which have no size
            data = file.read(_SENT_BYTES + 1)
    except OSError as error:
        raise MissingFile(f"can't read {path}: {error.strerror}") from error
    if len(data) > _SENT_BYTES:
        raise MissingFile(
            f"{path} has more than {_SENT_BYTES >> 20} MiB and is neither GGUF nor safetensors"
        )
    digest = f"sha256:{sha256(data).hexdigest()}"
    client.upload(digest, data)
    return digest


def _is_weights(path: Path) -> bool:
    if path.suffix in (".gguf", ".safetensors"):
        return True
    if not path.is_file():  # what a pipe gives can be read once
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:  # the daemon's answer tells
        return True


def _is_repository(path: Path, quantizes: bool) -> bool:
    """Whether a directory is to be converted: full weights win only where they are asked for."""
    weights, ggufs = any(path.glob("*.safetensors")), any(path.glob("*.gguf"))
    if weights and ggufs and not quantizes:
        raise MissingFile(
            f"{path} holds safetensors and GGUF files; name the GGUF file in FROM, or say QUANTIZE "
            "(COPY for no change) to convert the safetensors"
        )
    if not weights and not ggufs:
        _refuse_pickles(path)
    return weights


def _refuse_pickles(path: Path) -> None:
    pickles = sorted(file.name for glob in PICKLE_PATTERNS for file in path.glob(glob))
    if pickles:
        raise MissingFile(
            f"{path} has its weights as a pickle ({pickles[0]}), which can run any code when it is "
            "opened; convert it to safetensors where that does no harm, or say --allow-pickle"
        )


def _holds_files(path: Path, text: str) -> bool:
    """A folder that only happens to be called like a model is not meant."""
    if path.is_dir():
        return is_path(text) or any(path.glob("*.gguf"))
    return path.exists()


def located(source: Source, folder: Path) -> Path:
    """Where a path of the Modelfile leads."""
    return (folder / Path(source.text).expanduser()).resolve()


def _one_file(path: Path) -> Path:
    """The file itself, or the only GGUF in the folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found) or "none"
    raise MissingFile(
        f"{path} must hold safetensors files or one GGUF file, there is: {names}; "
        "name the file in FROM"
    )
