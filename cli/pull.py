"""`qm pull`, `qm push`: models from the hub or a registry, and to one."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from .client import Client, Refused
from .connect import connect
from .naming import as_on_hub, local_name, model_argument
from .progress import Progress
from .table import size_text

INTERRUPTED = 130
HTTP_NOT_FOUND = 404


@click.command()
@click.argument("model")
@click.option("--limit-rate", metavar="SIZE", help="Most bytes a second, such as 2MiB.")
@click.option("--insecure", is_flag=True, help="Ask the registry without TLS.")
@click.option(
    "-q", "--quantize", metavar="TYPE", help="Convert a repository of safetensors, to this type."
)
@click.pass_context
def pull_command(
    ctx: click.Context,
    model: str,
    limit_rate: str | None,
    insecure: bool,
    quantize: str | None,
) -> None:
    """Download MODEL: hf.co/org/repo, hf.co/org/repo:QUANT, the address of its page, or
    registry/namespace/model:tag.

    What came stays when this is interrupted; the same command goes on from there.
    """
    rate, model = _rate(limit_rate), as_on_hub(model)
    try:
        if quantize:
            name = build(connect(), model, quantize)
        else:
            pull(connect(), model, rate, insecure=insecure)
            name = local_name(model)
    except KeyboardInterrupt:
        click.echo(f"stopped; what came is kept: qm pull {model} goes on", err=True)
        ctx.exit(INTERRUPTED)
    click.echo(f"pulled '{name}'")


@click.command()
@model_argument("model")
@click.argument("target", required=False)
@click.option("--insecure", is_flag=True, help="Ask the registry without TLS.")
@click.pass_context
def push_command(ctx: click.Context, model: str, target: str | None, insecure: bool) -> None:
    """Upload MODEL to the registry that its name says, or as TARGET: registry/namespace/model:tag.

    Interrupted, the same command goes on where it was.
    """
    body = {"model": model, "insecure": insecure, "destination": target or ""}
    try:
        with connect().stream("/api/push", body) as items:
            Progress(sys.stderr).follow(items)
    except KeyboardInterrupt:
        click.echo(f"stopped; qm push {model} {target or ''} goes on".replace("  ", " "), err=True)
        ctx.exit(INTERRUPTED)
    click.echo(f"pushed '{target or model}'")


def pull(client: Client, model: str, limit_rate: int = 0, *, insecure: bool = False) -> None:
    """Returns when the model is here. Raises Refused with the reason why it isn't."""
    body: dict[str, object] = {"model": model, "insecure": insecure}
    if limit_rate:
        body["limit_rate"] = limit_rate
    with client.stream("/api/pull", body) as items:
        Progress(sys.stderr).follow(items)


def build(client: Client, model: str, quantize: str) -> str:
    """Fetches a repository's weights and quantises them; the name that the model has here.

    Raises InvalidReference for what is not on the hub, Refused with the reason for all else.
    """
    from qm.modelfiles.spec import check_quantize
    from qm.store.pull.reference import parse_reference

    check_quantize(quantize)
    name = str(replace(parse_reference(model), quant=quantize.split(maxsplit=1)[0]).name)
    body = {"model": name, "from": model, "quantize": quantize}
    with client.stream("/api/create", body) as items:
        Progress(sys.stderr).follow(items)
    return name


def here(client: Client, model: str, *, insecure: bool = False) -> str:
    """The name under which the model is here. One of the hub, or whose name begins with a
    registry's host, is pulled first if it is not.
    """
    from qm.store.pull.reference import is_hub, parse_reference

    if is_hub(model := as_on_hub(model)):
        name = str(parse_reference(model).name)
    elif _names_registry(model):
        name = model
    else:
        return model
    try:
        client.post("/api/show", {"model": name})
    except Refused as refused:
        if refused.http_status != HTTP_NOT_FOUND:
            raise
        pull(client, model, insecure=insecure)
    return name


def _names_registry(model: str) -> bool:
    """Whether the name says on which host it is; others are names of models that are here."""
    host, *rest = model.split("/")
    return len(rest) == 2 and ("." in host or ":" in host or host == "localhost")


def _rate(text: str | None) -> int:
    from qm.daemon.setting_values import parse_size

    if text is None:
        return 0
    try:
        rate = parse_size(text)
    except ValueError as error:
        raise click.UsageError(f"--limit-rate {text}: {error}") from error
    if rate < 1024:
        raise click.UsageError(f"--limit-rate {text}: at least 1K, not {size_text(rate)}")
    return rate
