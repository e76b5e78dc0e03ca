"""`qm serve`, `qm status`, `qm shutdown`, `qm logs`: the daemon itself."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click
from qm.store.errors import NotFound, QmError

from .client import Client, JsonObject
from .connect import connect_if_running, show_json
from .follow import follow, last_lines
from .launch import daemon_argv
from .table import duration_text
from .transport import DaemonNotRunning

POLL_S = 0.02
# Past the drain limit of the daemon, which then kills what is left.
SHUTDOWN_MARGIN_S = 20.0


class NoLog(NotFound):
    """There is no log to show."""

    code = "no_log"

    def __init__(self, path: Path) -> None:
        super().__init__(f"no log at {path} yet; the daemon writes one when it starts: qm serve")


class StillRunning(QmError):
    """The daemon was told to end and has not."""

    code = "still_running"

    def __init__(self, pid: int) -> None:
        super().__init__(f"the daemon (pid {pid}) has not ended; see: qm logs")


@click.command()
def serve_command() -> None:
    """Run the daemon in the foreground; Ctrl-C ends it."""
    sys.stdout.flush()
    argv = daemon_argv()
    os.execv(argv[0], argv)  # noqa: S606  our own interpreter, no shell


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def status_command(ctx: click.Context, as_json: bool) -> None:
    """Say how the daemon is. Exit code 1 if it isn't running."""
    client = connect_if_running()
    try:
        status = client.get("/qm/status")
    except DaemonNotRunning:
        if as_json:
            show_json({"running": False, "socket": str(client.socket)})
        else:
            click.echo(f"not running (socket {client.socket}); any command that needs it starts it")
        ctx.exit(1)
    if as_json:
        show_json({"running": True, **status})
    else:
        click.echo(status_text(status))


@click.command()
def shutdown_command() -> None:
    """End the daemon: it finishes running answers, and unloads what it loaded."""
    client = connect_if_running()
    try:
        pid = int(client.get("/qm/status")["pid"])
        client.post("/qm/shutdown", {})
    except DaemonNotRunning:
        click.echo("the daemon was not running")
        return
    _wait_gone(client, pid)
    click.echo("the daemon has ended")


@click.command()
@click.option("-f", "--follow", "following", is_flag=True, help="Go on as the log grows.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines to begin with.")
def logs_command(following: bool, lines: int) -> None:
    """Print the end of the daemon's log."""
    from qm.daemon.settings import load_settings

    path = load_settings().log_file
    if not path.exists():
        raise NoLog(path)
    if not following:
        click.echo(last_lines(path, lines), nl=False)
        return
    for text in follow(path, lines):
        click.echo(text, nl=False)
        sys.stdout.flush()


def status_text(status: JsonObject) -> str:
    """One fact a line; lists are counted."""
    facts = {"uptime": duration_text(status.get("uptime_s", 0))}
    for key, value in status.items():
        if key == "uptime_s":
            continue
        if isinstance(value, list):
            facts[key] = ", ".join(map(_item_text, value)) or "none"
        elif not isinstance(value, dict):
            facts[key] = "none" if value is None else str(value)
    return "\n".join(f"{name + ':':<12}{value}" for name, value in facts.items())


def _item_text(item: object) -> str:
    if isinstance(item, dict):
        return str(item.get("name") or item.get("kind") or item)
    return str(item)


def _wait_gone(client: Client, pid: int) -> None:
    from qm.daemon.settings import load_settings

    end = time.monotonic() + load_settings().drain_timeout_s + SHUTDOWN_MARGIN_S
    while _lives(pid):
        if time.monotonic() > end:
            raise StillRunning(pid)
        time.sleep(POLL_S)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
