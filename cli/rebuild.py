"""`qm rebuild --check`: whether a model's weights come out the same when they are built again."""

from __future__ import annotations

import sys

import click

from .connect import connect, show_json
from .naming import model_argument
from .progress import Progress

_SHOWN = 19  # "sha256:" and twelve digits


@click.command()
@model_argument("model")
@click.option("--check", is_flag=True, required=True, help="Compare with what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def rebuild_command(ctx: click.Context, model: str, check: bool, as_json: bool) -> None:
    """Do every step of MODEL's build again. Exit code 1 if other bytes come out."""
    with connect().stream("/qm/rebuild", {"model": model}) as items:
        result = Progress(sys.stderr).follow(items)
    if as_json:
        show_json({"same": result["same"], "steps": result["steps"]})
    else:
        for step in result["steps"]:
            recorded, rebuilt = step["recorded"], step["rebuilt"]
            verdict = "same" if step["same"] else f"different: {recorded['output'][:_SHOWN]} was"
            click.echo(f"{step['kind']:<9} {rebuilt['output'][:_SHOWN]}  {verdict}")
            if recorded["tool"] != rebuilt["tool"]:
                click.echo(f"          made with {recorded['tool']}, here is {rebuilt['tool']}")
    ctx.exit(0 if result["same"] else 1)
