"""`qm create`: a Modelfile and the files that it names become a model.

We open the Modelfile and find the files; the daemon adopts them by path, over the socket that only
we can reach, and builds.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .connect import connect
from .naming import as_on_hub
from .pickles import opened_pickles
from .progress import Progress
from .sources import MissingFile, bring_all, is_path, local_files, with_repository_files

if TYPE_CHECKING:
    from qm.modelfiles.parser import Modelfile
    from qm.modelfiles.spec import ModelSpec

DEFAULT_FILE = "Modelfile"
STDIN = "-"
NAMING_SOURCES = {"FROM", "DELTA", "ADAPTER", "DRAFT", "IMATRIX", "CALIBRATION"}


@click.command()
@click.argument("name")
@click.option(
    "-f", "--file", "file", metavar="PATH", help="Modelfile; - reads it from a pipe. [./Modelfile]"
)
@click.option("--from", "source", metavar="PATH|NAME", help="In place of the Modelfile's FROM.")
@click.option("-q", "--quantize", metavar="TYPE", help="Quantise to this type, such as Q4_K_M.")
@click.option("--draft-quantize", metavar="TYPE", help="Quantise the model that DRAFT names.")
@click.option("--merge", is_flag=True, help="Merge LoRA adapters into the weights.")
@click.option("--allow-pickle", is_flag=True, help="Open pickled weights, in a confined process.")
def create_command(
    name: str,
    *,
    file: str | None,
    source: str | None,
    quantize: str | None,
    draft_quantize: str | None,
    merge: bool,
    allow_pickle: bool,
) -> None:
    """Build the model NAME from a Modelfile, a GGUF or another model."""
    from qm.modelfiles.spec import check_quantize, from_modelfile

    modelfile, folder = _modelfile(file, source)
    spec = from_modelfile(_on_hub(modelfile))
    if quantize:
        check_quantize(quantize)
        spec = replace(spec, quantize=quantize)
    if draft_quantize:
        check_quantize(draft_quantize)
        spec = replace(spec, draft_quantize=draft_quantize)
    spec = replace(spec, merge=merge, allow_pickle=allow_pickle)
    for warning in spec.warnings:
        click.echo(f"Warning: {warning}", err=True)
    spec.refuse_unperformable()  # before a large file is copied for nothing
    with ExitStack() as stack:
        if allow_pickle:
            spec = stack.enter_context(opened_pickles(spec, folder))
        _create(name, spec, folder)
    click.echo(f"created '{name}'")


def _create(name: str, spec: ModelSpec, folder: Path) -> None:
    from qm.modelfiles.create_request import to_create_request

    spec = with_repository_files(spec, folder)
    files = dict(local_files(spec, folder))
    client = connect()
    digests = bring_all(client, files)
    body = {**to_create_request(spec, digests), "model": name}
    if _builds_anew():
        body["no_cache"] = True
    with client.stream("/api/create", body) as items:
        Progress(sys.stderr).follow(items)


def _builds_anew() -> bool:
    from qm.daemon.settings import load_settings

    return load_settings().no_build_cache


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


def _on_hub(modelfile: Modelfile) -> Modelfile:
    """The same, with the hub's own addresses for those of its mirror."""
    return replace(
        modelfile,
        instructions=tuple(
            replace(each, argument=as_on_hub(each.argument))
            if each.keyword in NAMING_SOURCES
            else each
            for each in modelfile.instructions
        ),
    )


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
    is_file = path.exists() or (is_path(source) and "://" not in source)
    return str(path.absolute()) if is_file else source
