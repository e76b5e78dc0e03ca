"""`qm key`: who may talk to the daemon over TCP."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from .connect import connect, show_json
from .table import table

SCOPES = ("chat", "manage")


@click.group()
def key_command() -> None:
    """Add, list and remove API keys. Once there is one, TCP clients must send one."""


@key_command.command("add")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    default=("chat",),
    show_default=True,
    help="What it opens; manage includes chat.",
)
def add_command(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key called NAME and print it, this once."""
    made = connect().post("/qm/keys", {"name": name, "scopes": list(scopes)})
    click.echo(made["key"])


@key_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the API's own objects.")
def list_command(as_json: bool) -> None:
    """List the keys by name; what they are nobody knows."""
    keys = connect().get("/qm/keys")["keys"]
    if as_json:
        show_json(keys)
        return
    rows = [(key["name"], ", ".join(key["scopes"]), _day(key["created"])) for key in keys]
    click.echo(table(("NAME", "SCOPES", "CREATED"), rows))


@key_command.command("rm")
@click.argument("name")
def rm_command(name: str) -> None:
    """Remove the key NAME: it opens nothing from now on."""
    connect().post("/qm/keys/rm", {"name": name})
    click.echo(f"removed key '{name}'")


def _day(created_s: int) -> str:
    return datetime.fromtimestamp(created_s, UTC).date().isoformat()
