"""`qm create`: a Modelfile and the files that it names become a model.

We open the Modelfile and find the files; the daemon adopts them by path, over the socket that only
we can reach, and builds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from qm.store.errors import InvalidRequest

from .client import Client
from .connect import connect
from .progress import Progress
from .table import size_text

if TYPE_CHECKING:
    from qm.modelfiles.parser import Modelfile
    from qm.modelfiles.spec import ModelSpec, Source

DEFAULT_FILE = "Modelfile"
STDIN = "-"
PATH_STARTS = ("/", "./", "../", "~")


class MissingFile(InvalidRequest):
    """A file that the command or its Modelfile names isn't there, or is of no use."""

    code = "missing_file"


@click.command()
@click.argument("name")
@click.option(
    "-f", "--file", "file", metavar="PATH", help="Modelfile; - reads it from a pipe. [./Modelfile]"
)
@click.option("--from", "source", metavar="PATH|NAME", help="In place of the Modelfile's FROM.")
@click.option("-q", "--quantize", metavar="TYPE", help="Quantise to this type, such as Q4_K_M.")
def create_command(name: str, file: str | None, source: str | None, quantize: str | None) -> None:
    """Build the model NAME from a Modelfile, a GGUF or another model."""
    from qm.modelfiles.create_request import to_create_request
    from qm.modelfiles.spec import from_modelfile

    modelfile, folder = _modelfile(file, source)
    spec = from_modelfile(modelfile)
    if quantize:
        spec = replace(spec, quantize=quantize)
    for warning in spec.warnings:
        click.echo(f"Warning: {warning}", err=True)
    spec.refuse_unperformable()  # before a large file is copied for nothing
    files = dict(local_files(spec, folder))
    client = connect()
    digests = {text: _adopt(client, path) for text, path in files.items()}
    with client.stream("/api/create", {**to_create_request(spec, digests), "model": name}) as items:
        Progress(sys.stderr).follow(items)
    click.echo(f"created '{name}'")


def _modelfile(file: str | None, source: str | None) -> tuple[Modelfile, Path]:
    """What to build, and the folder that its paths start from."""
    from qm.modelfiles.parser import Instruction, Modelfile, parse

    if file is None and (source or not Path(DEFAULT_FILE).exists()):
        only_from = (Instruction("FROM", source or "."),)
        return Modelfile(only_from), Path.cwd()
    modelfile = parse(_read(file or DEFAULT_FILE))
    folder = Path.cwd() if file == STDIN else Path(file or DEFAULT_FILE).absolute().parent
    if source:
        modelfile = modelfile.with_from(_from_here(source))
    return modelfile, folder


def _read(file: str) -> bytes:
    if file == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise MissingFile(f"can't read the Modelfile {file}: {error.strerror}") from error


def _from_here(source: str) -> str:
    """--from starts where the user stands, whatever folder the Modelfile is in."""
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() or _is_path(source) else source


def local_files(spec: ModelSpec, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files on this machine that the spec names, by the text that names them.

    Raises MissingFile; a FROM that names no file is a model's name.
    """
    sources = [*spec.from_, *spec.adapters]
    sources += [source for source in (spec.draft, spec.calibration) if source]
    for source in sources:
        path = _located(source, folder)
        if not source.is_hub and _holds_files(path, source.text):
            yield source.text, _one_file(path)
        elif source not in spec.from_ or _is_path(source.text):
            where = f"line {source.line}: " if source.line else ""
            raise MissingFile(f"{where}no such file: {path}")


def _holds_files(path: Path, text: str) -> bool:
    """A folder that only happens to be called like a model is not meant."""
    if path.is_dir():
        return _is_path(text) or any(path.glob("*.gguf"))
    return path.exists()


def _located(source: Source, folder: Path) -> Path:
    return (folder / Path(source.text).expanduser()).resolve()


def _one_file(path: Path) -> Path:
    """The file itself, or the only GGUF in the folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found) or "none"
    raise MissingFile(f"{path} must hold one GGUF file, there is: {names}; name the file in FROM")


def _is_path(text: str) -> bool:
    return text.startswith(PATH_STARTS) or text in (".", "..") or text.lower().endswith(".gguf")


def _adopt(client: Client, path: Path) -> str:
    """The digest of a file that is in the store now."""
    with client.stream("/qm/adopt", {"path": str(path)}) as items:
        result = Progress(sys.stderr).follow(items)
    how, size = result.get("how", ""), size_text(result.get("size", 0))
    click.echo(f"{path.name}: {size}, {how}" if how else f"{path.name}: {size}", err=True)
    return str(result["digest"])
