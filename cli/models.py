"""`qm list`, `qm cp`, `qm rm`: the models that are here."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from .connect import connect, show_json
from .naming import model_argument
from .table import ago_text, size_text, table

ID_LENGTH = 12


@click.command()
@click.argument("prefix", default="")
@click.option("--quality", is_flag=True, help="Show what was measured by qm eval.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's own objects.")
def list_command(prefix: str, quality: bool, as_json: bool) -> None:
    """List the models that are here; PREFIX narrows the list."""
    models = [
        model
        for model in connect().get("/api/tags")["models"]
        if model["name"].lower().startswith(prefix.lower())
    ]
    if as_json:
        show_json(models)
        return
    if quality:
        from .quality import quality_table

        click.echo(quality_table(models))
        return
    now = datetime.now(UTC)
    rows = [
        (
            model["name"],
            model["digest"][:ID_LENGTH],
            size_text(model["size"]),
            ago_text(model["modified_at"], now),
        )
        for model in models
    ]
    click.echo(table(("NAME", "ID", "SIZE", "MODIFIED"), rows))


@click.command()
@model_argument("source")
@click.argument("destination")
def cp_command(source: str, destination: str) -> None:
    """Give the model SOURCE the second name DESTINATION; both share their bytes."""
    connect().post("/api/copy", {"source": source, "destination": destination})
    click.echo(f"copied '{source}' to '{destination}'")


@click.command()
@model_argument("models", nargs=-1)
def rm_command(models: tuple[str, ...]) -> None:
    """Delete MODELS; what another model still uses stays on the disk."""
    client = connect()
    for model in models:
        freed_bytes = client.post("/qm/rm", {"model": model}).get("freed_bytes", 0)
        click.echo(f"deleted '{model}', freed {size_text(freed_bytes)}")
