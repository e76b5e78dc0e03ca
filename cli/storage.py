"""`qm store move`: where the models live."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from .connect import connect
from .progress import Progress

INTERRUPTED = 130


@click.group()
def store_command() -> None:
    """Move the store, and say where it is."""


@store_command.command("move")
@click.argument("path", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def move_command(ctx: click.Context, path: Path) -> None:
    """Move all models to the new or empty directory PATH. Models go on answering meanwhile.

    Interrupted, the same command goes on; until it is through everything is where it was. Later
    starts find the new place by themselves.
    """
    target = os.path.abspath(path.expanduser())  # noqa: PTH100  takes `..` out, keeps links
    try:
        with connect().stream("/qm/store/move", {"path": target}) as items:
            Progress(sys.stderr).follow(items)
    except KeyboardInterrupt:
        click.echo(f"stopped; nothing is lost: qm store move {target} goes on", err=True)
        ctx.exit(INTERRUPTED)
    click.echo(f"the store is at {target}")


@store_command.command("path")
def path_command() -> None:
    """Print where the store is."""
    click.echo(connect().get("/qm/status")["store"])
