"""The argument that names a model, with completion by the names that are here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from qm.store.errors import QmError

Function = TypeVar("Function", bound=Callable[..., object])


def model_argument(
    name: str, *, nargs: int = 1, required: bool = True
) -> Callable[[Function], Function]:
    """An argument of one or (nargs=-1) more model names."""
    return click.argument(name, nargs=nargs, required=required, shell_complete=_complete)


def _complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Names that begin so. Pressing Tab starts no daemon and prints no error."""
    from .connect import connect_if_running

    try:
        models = connect_if_running().get("/api/tags", limit_s=1.0)["models"]
    except QmError:
        return []
    names = (str(model["name"]).removesuffix(":latest") for model in models)
    return [name for name in names if name.lower().startswith(incomplete.lower())]
