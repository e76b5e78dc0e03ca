"""`qm worker`: lends this machine's devices to a qm on another one."""

from __future__ import annotations

import os
import sys

import click

WARNING = """\
qm worker: llama.cpp's RPC protocol has no authentication and no encryption. Whoever reaches
{host}:{port} can use this machine's memory and perhaps take it over. Keep it inside a tunnel
(ssh -L) or a private network that you trust."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=50052,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Port to listen on.",
)
@click.option("--threads", default=0, type=click.IntRange(0, 1024), help="0: one a core.")
def worker_command(*, host: str, port: int, threads: int) -> None:
    """Lend this machine's memory to a qm elsewhere, which names it in QM_RPC.

    Runs until it is interrupted, and serves one model at a time.
    """
    click.echo(WARNING.format(host=host, port=port), err=True)
    sys.stderr.flush()
    arguments = (sys.executable, "-P", "-m", "qm.daemon.runner.worker", host, str(port))
    os.execv(sys.executable, (*arguments, str(threads)))  # noqa: S606  an argv of ours
