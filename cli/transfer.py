"""`qm import`, `qm export`: models that are on this disk already, in and out."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .client import Client, JsonObject
from .connect import connect, show_json
from .naming import model_argument
from .progress import Progress
from .table import size_text, table

NEEDS_COPY = "needs copy"


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what there is.")
@click.option("--copy", is_flag=True, help="Copy what can't be linked, and leave nothing in place.")
@click.option("--name", help="Call the one model that PATHS hold so.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def import_command(
    ctx: click.Context,
    *,
    paths: tuple[Path, ...],
    dry_run: bool,
    copy: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """Take in the models below PATHS: a GGUF, a folder of them, an Ollama store, a Hugging Face
    cache, the folder of LM Studio. Without PATHS, wherever those programs usually keep theirs.

    Files are shared by link; across disks they are used where they are. Exit code 1 if one that
    was found can't be used.
    """
    folders = [path.absolute() for path in paths] or _usual_folders()
    body: JsonObject = {"paths": [str(path) for path in folders], "dry_run": dry_run, "copy": copy}
    body |= {"name": name} if name else {}
    client = connect()
    models = _ask(client, body)
    if _wants_copies(models):
        copied = _ask(client, body | {"copy": True})
        pairs = zip(models, copied, strict=False)
        models = [new if old["outcome"] == NEEDS_COPY else old for old, new in pairs]
    if as_json:
        show_json(models)
    else:
        _tell(models, folders)
    ctx.exit(1 if any(model["outcome"] in ("refused", NEEDS_COPY) for model in models) else 0)


@click.command()
@model_argument("model")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--ollama", is_flag=True, help="PATH is a store: OLLAMA_MODELS=PATH reads it.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export_command(model: str, path: Path, ollama: bool, as_json: bool) -> None:
    """Write MODEL out to PATH: a GGUF, or into that folder."""
    body = {"model": model, "path": str(path.absolute()), "ollama": ollama}
    with connect().stream("/qm/export", body) as items:
        result = Progress(sys.stderr).follow(items)
    if as_json:
        show_json({"paths": result["paths"], "size": result["size"]})
        return
    for written in result["paths"]:
        click.echo(written)
    click.echo(f"exported '{model}', {size_text(result['size'])}", err=True)


def _usual_folders() -> list[Path]:
    from qm.daemon.settings import model_folders

    return list(model_folders())


def _ask(client: Client, body: JsonObject) -> list[JsonObject]:
    with client.stream("/qm/import", body) as items:
        models: list[JsonObject] = Progress(sys.stderr).follow(items)["models"]
    return models


def _wants_copies(models: list[JsonObject]) -> bool:
    """Asks, if there is anything that can only be copied and anybody to ask."""
    needed = [model for model in models if model["outcome"] == NEEDS_COPY]
    if not needed or not sys.stdin.isatty():
        return False
    size = size_text(sum(model["size_bytes"] for model in needed))
    question = f"{len(needed)} can't be shared and would be copied ({size}); copy?"
    return click.confirm(question, err=True)


def _tell(models: list[JsonObject], folders: list[Path]) -> None:
    if not models:
        where = ", ".join(map(str, folders)) or "the usual folders"
        click.echo(f"no models in {where}")
        return
    rows = [
        (
            model["name"] or "-",
            size_text(model["size_bytes"]),
            model["outcome"] + (f" ({model['how']})" if model["how"] else ""),
            model["reason"] or model["path"],
        )
        for model in models
    ]
    click.echo(table(("NAME", "SIZE", "OUTCOME", "FROM"), rows))
