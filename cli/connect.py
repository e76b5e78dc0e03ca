"""What every command needs: the daemon at hand, and JSON for scripts."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import click

from .client import Client
from .launch import ensure_daemon, running_daemon


def connect() -> Client:
    """The daemon, started in the background if it isn't running."""
    from qm.daemon.network import HEADER, to_header
    from qm.daemon.settings import load_settings

    client, network = ensure_daemon(load_settings()), to_header(os.environ)
    return replace(client, headers={HEADER: network}) if network else client


def connect_if_running() -> Client:
    """The daemon that may be running; never starts one."""
    from qm.daemon.settings import load_settings

    return running_daemon(load_settings())


def show_json(value: object) -> None:
    """Print a document for programs to read."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
