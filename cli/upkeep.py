"""`qm verify`, `qm gc`, `qm df`: the store's health and size."""

from __future__ import annotations

import sys

import click

from .client import JsonObject
from .connect import connect, show_json
from .naming import model_argument
from .progress import Progress
from .table import size_text, table

MOST_SHARED = 20  # lines; --json has all
MOST_NAMES = 6
ID_LENGTH = 19  # "sha256:" and twelve digits


@click.command()
@model_argument("model", required=False)
@click.option("--repair", is_flag=True, help="Fetch what is bad again from where it came from.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def verify_command(ctx: click.Context, model: str | None, repair: bool, as_json: bool) -> None:
    """Read every blob (of MODEL) and compare it with its digest. Exit code 1 if one is bad."""
    body = {"model": model, "repair": repair} if model else {"repair": repair}
    with connect().stream("/qm/verify", body) as items:
        result = Progress(sys.stderr).follow(items)
    bad, repaired = result.get("bad", []), result.get("repaired", [])
    if as_json:
        show_json({"checked": result.get("checked", 0), "bad": bad, "repaired": repaired})
    else:
        for blob in repaired:
            click.echo(f"repaired  {blob['digest'][:ID_LENGTH]}")
        for blob in bad:
            users = ", ".join(blob.get("models", [])) or "no model"
            click.echo(f"bad  {blob['digest'][:ID_LENGTH]}  of {users}: {blob['reason']}")
        click.echo(f"checked {result.get('checked', 0)} blobs, {len(bad)} bad")
    ctx.exit(1 if bad else 0)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def gc_command(dry_run: bool, as_json: bool) -> None:
    """Delete what no model uses any more and nobody works on."""
    result = connect().post("/qm/gc", {"dry_run": dry_run})
    if as_json:
        show_json(result)
        return
    deleted = result["deleted"]
    for item in deleted:
        click.echo(f"{item['digest'][:ID_LENGTH]}  {size_text(item['size'])}")
    done = "would delete" if dry_run else "deleted"
    freed = "would free" if dry_run else "freed"
    click.echo(f"{done} {len(deleted)}, {freed} {size_text(result['freed_bytes'])}")
    for item in result["kept"]:
        click.echo(
            f"kept {item['digest'][:ID_LENGTH]}  {size_text(item['size'])}: {item['reason']}"
        )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole account as JSON.")
def df_command(as_json: bool) -> None:
    """Say what takes how much space, and what models share."""
    usage = connect().get("/qm/df")
    if as_json:
        show_json(usage)
        return
    click.echo(table(("MODEL", "SIZE", "OWN", "SHARED"), [_row(item) for item in usage["models"]]))
    click.echo(f"\n{totals_text(usage)}")
    for models, size_bytes in _shared_among(usage["blobs"]):
        click.echo(f"shared:     {size_text(size_bytes)} among {_some(models)}")
    for blob in usage["blobs"]:
        if blob.get("source"):
            users = ", ".join(blob["models"]) or "no model"
            size = size_text(blob["size"])
            click.echo(f"shared:     {size} of {users} with {blob['source']} ({blob['kind']})")
    for entry in usage["unreadable"]:
        click.echo(f"unreadable: {entry['path']}: {entry['reason']}", err=True)


def totals_text(usage: JsonObject) -> str:
    """What all models take together, what nobody needs, and what is left."""
    lines = [("together", size_text(usage["total_bytes"]))]
    if usage["orphan_bytes"]:
        lines.append(("unused", f"{size_text(usage['orphan_bytes'])}, qm gc frees it"))
    if usage["partial_bytes"]:
        lines.append(("unfinished", size_text(usage["partial_bytes"])))
    free, total = size_text(usage["disk_free_bytes"]), size_text(usage["disk_total_bytes"])
    lines.append(("disk", f"{free} free of {total}"))
    return "\n".join(f"{name + ':':<12}{value}" for name, value in lines)


def _shared_among(blobs: list[JsonObject]) -> list[tuple[tuple[str, ...], int]]:
    """Which models share how many bytes, the largest sum first."""
    sums: dict[tuple[str, ...], int] = {}
    for blob in blobs:
        if len(models := tuple(sorted(blob["models"]))) > 1:
            sums[models] = sums.get(models, 0) + blob["size"]
    return sorted(sums.items(), key=lambda pair: -pair[1])[:MOST_SHARED]


def _some(models: tuple[str, ...]) -> str:
    rest = len(models) - MOST_NAMES
    return ", ".join(models[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _row(model: JsonObject) -> tuple[str, ...]:
    return (
        model["name"],
        *(size_text(model[key]) for key in ("size", "own", "shared")),
    )
