"""`qm completion`: the script that teaches a shell our commands and model names."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
# The completer imports qm for each Tab; click reads this variable to know that it is asked.
VARIABLE = "_QM_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the completion script for SHELL, to be sourced by it.

    \b
    bash: echo 'eval "$(qm completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(qm completion zsh)"' >> ~/.zshrc
    fish: qm completion fish > ~/.config/fish/completions/qm.fish
    """
    from click.shell_completion import get_completion_class

    from .main import qm

    completer = get_completion_class(shell)
    assert completer is not None, shell
    click.echo(completer(qm, {}, "qm", VARIABLE).source())
