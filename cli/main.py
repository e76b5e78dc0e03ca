"""`qm`: finds the command, runs it, and turns what went wrong into words and an exit code.

Start-up time is a feature: a command's module is imported when that command runs, and its one-line
help is kept here so that `qm --help` imports none of them.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn, cast

import click
from qm.store.errors import QmError

# name → (module, one-line help). The command is the module's attribute `<name>_command`.
COMMANDS = {
    "run": ("run", "Chat with a model, or ask it one thing."),
    "pull": ("pull", "Download a model from the Hugging Face hub or a registry."),
    "push": ("pull", "Upload a model to a registry."),
    "create": ("create", "Build a model from a Modelfile, a GGUF or another model."),
    "eval": ("quality", "Measure how good and how fast a model is."),
    "compare": ("compare", "Quantise a model to several types and compare them."),
    "rebuild": ("rebuild", "Build a model's weights again and compare the bytes."),
    "lock": ("lock", "Write down how models are built, or build them from that."),
    "list": ("models", "List the models that are here."),
    "show": ("show", "Say what a model is made of."),
    "import": ("transfer", "Take in models that other programs keep here, without a copy."),
    "export": ("transfer", "Write a model out as a GGUF, or as a store for Ollama."),
    "cp": ("models", "Give a model a second name."),
    "rm": ("models", "Delete models."),
    "ps": ("running", "List the models that are loaded, and the jobs that run."),
    "stop": ("running", "Unload a model now."),
    "plan": ("placement", "Say where a model would go, and what would fit."),
    "doctor": ("placement", "Say what models can be put on, and what is wrong."),
    "worker": ("worker", "Lend this machine's memory to a qm elsewhere."),
    "serve": ("server", "Run the daemon in the foreground."),
    "status": ("server", "Say how the daemon is."),
    "shutdown": ("server", "End the daemon."),
    "logs": ("server", "Print the daemon's log."),
    "key": ("key", "Add, list and remove API keys."),
    "verify": ("upkeep", "Check that every blob still has the bytes it had."),
    "gc": ("upkeep", "Delete what no model uses any more."),
    "df": ("upkeep", "Say what takes how much space."),
    "store": ("storage", "Move the models to another place."),
    "completion": ("completion", "Print the completion script for a shell."),
}
ALIASES = {"ls": "list", "start": "serve"}

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class LazyGroup(click.Group):
    """Commands by name, each imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of `COMMANDS`, which puts the usual ones first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module = import_module(f".{COMMANDS[name][0]}", __package__)
        return cast(click.Command, getattr(module, f"{name}_command"))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value:
        return
    from importlib.metadata import version

    click.echo(f"qm {version('qm')}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="qm COMMAND --help says more about one of them.",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and leave.",
)
def qm() -> None:
    """Run models on this machine: build, chat, serve."""


def command() -> NoReturn:
    """`main` as a process: what it leaves behind, the kernel frees in less time than we could."""
    code = main()
    _flush()
    os._exit(code)


def main() -> int:
    """The exit code: 0 done, 1 failed, 2 used wrongly, 130 interrupted."""
    try:
        code = qm.main(prog_name="qm", standalone_mode=False)
        _flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except QmError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:  # whoever read our output has enough, as in `qm list | head -1`
        _write_no_more()
        return EXIT_FAILED
    except OSError as error:  # as of a disk that is full
        _write_no_more()
        what = f": {error.filename}" if error.filename else ""
        print(f"Error: {error.strerror or error}{what}", file=sys.stderr)
        return EXIT_FAILED
    return code if isinstance(code, int) else 0


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by whoever started us
            stream.flush()


def _write_no_more() -> None:
    """So that the flush at exit can't fail."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
