"""`qm run`: a conversation on a terminal, one plain answer for a prompt or a pipe."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from .answer import PlainPrinter, Printer, TerminalPrinter, stream_answer, timings_text
from .client import Client
from .connect import connect
from .naming import model_argument
from .progress import Spinner
from .pull import here
from .session import Session, Think, View, parse_keep_alive, parse_think
from .slash import parse_format, parse_option

if TYPE_CHECKING:
    from qm.daemon.settings import Settings

EXIT_INTERRUPTED = 130


class RunCommand(click.Command):
    """Lets `--think` stand alone: its value, if any, follows a "="."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        own = ["--think=true" if arg == "--think" else arg for arg in args[:end]]
        return super().parse_args(ctx, own + args[end:])


@click.command(cls=RunCommand)
@model_argument("model", as_written=True)
@click.argument("prompt", nargs=-1)
@click.option("--system", default="", metavar="TEXT", help="System prompt in place of the model's.")
@click.option(
    "-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Set a parameter."
)
@click.option("--format", "output_format", metavar="json|SCHEMA", help="Answer in JSON.")
@click.option("--think", metavar="[=LEVEL]", help="Think first: true, false, low, medium or high.")
@click.option("--hidethinking", is_flag=True, help="Don't show what the model thinks.")
@click.option("--keepalive", metavar="TIME", help="How long the model stays loaded, such as 5m.")
@click.option("--truncate/--no-truncate", default=None, help="Cut what is too long, or refuse it.")
@click.option("--dimensions", type=click.IntRange(1), help="Length of an embedding.")
@click.option("--nowordwrap", is_flag=True, help="Let the terminal break lines.")
@click.option("--verbose", is_flag=True, help="Print timings after each answer.")
@click.option("--insecure", is_flag=True, help="Pull from a registry without TLS.")
@click.pass_context
def run_command(
    ctx: click.Context,
    *,
    model: str,
    prompt: tuple[str, ...],
    system: str,
    parameters: tuple[str, ...],
    output_format: str | None,
    think: str | None,
    hidethinking: bool,
    keepalive: str | None,
    truncate: bool | None,
    dimensions: int | None,
    nowordwrap: bool,
    verbose: bool,
    insecure: bool,
) -> None:
    """Chat with MODEL, or ask it PROMPT and leave.

    Text from a pipe goes before PROMPT: git diff | qm run MODEL "Write a commit message".
    """
    from qm.daemon.settings import load_settings

    settings = load_settings()
    session = Session(
        model,
        system=system,
        options=_options(parameters),
        format=parse_format(output_format) if output_format else None,
        think=_think(think),
        keep_alive=parse_keep_alive(keepalive) if keepalive else None,
        truncate=truncate,
        view=View(not nowordwrap, verbose, hidethinking, history=not settings.no_history),
    )
    client = connect()
    session = replace(session, model=here(client, session.model, insecure=insecure))
    if not _run(settings, client, session, _question(prompt), dimensions):
        ctx.exit(EXIT_INTERRUPTED)


def _run(
    settings: Settings,
    client: Client,
    session: Session,
    question: str | None,
    dimensions: int | None,
) -> bool:
    """Whether it came to its end; False if the user stopped the answer."""
    if question is None:
        from .repl import chat

        chat(settings, client, session)
        return True
    session = session.with_model(client.post("/api/show", {"model": session.model}))
    if session.only_embeds:
        _embed(client, session, question, dimensions)
        return True
    return _ask(client, session, question)


def _think(text: str | None) -> Think:
    return None if text is None else parse_think(text)


def _options(texts: tuple[str, ...]) -> dict[str, object]:
    """Repeated names gather their values, as `stop` needs."""
    values: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--parameter {text}: write NAME=VALUE")
        values.setdefault(name, []).append(value)
    return {name: parse_option(name, texts) for name, texts in values.items()}


def _question(prompt: tuple[str, ...]) -> str | None:
    """What to ask once; None for a conversation."""
    if sys.stdin.isatty():
        if prompt:
            return " ".join(prompt)
        return None if sys.stdout.isatty() else ""
    piped = sys.stdin.buffer.read().decode("utf-8", "replace")
    return "\n\n".join(part for part in (piped.rstrip("\n"), " ".join(prompt)) if part)


def _ask(client: Client, session: Session, question: str) -> bool:
    """One answer on stdout; False if the user stopped it. Without a question, only load."""
    from .images import user_message_for

    if question:
        session = session.said(user_message_for(session, question))
    answer = stream_answer(client, session, _printer(session), Spinner(sys.stderr))
    if session.view.verbose and answer.metrics:
        click.echo(timings_text(answer.metrics), err=True)
    return not answer.interrupted


def _printer(session: Session) -> Printer:
    if not sys.stdout.isatty():
        return PlainPrinter(sys.stdout)
    columns = shutil.get_terminal_size().columns if session.view.wordwrap else None
    return TerminalPrinter(sys.stdout, columns, hide_thinking=session.view.hide_thinking)


def _embed(client: Client, session: Session, text: str, dimensions: int | None) -> None:
    """The vector of `text` on stdout, as a JSON array."""
    request: dict[str, object] = {"model": session.model, "input": text}
    if dimensions:
        request["dimensions"] = dimensions
    click.echo(json.dumps(client.post("/api/embed", request)["embeddings"][0]))
