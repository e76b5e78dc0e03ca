"""The argument that names a model, with completion by the names that are here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from qm.store.errors import QmError

Function = TypeVar("Function", bound=Callable[..., object])


_OTHER_FORMS = ("hf:", "huggingface.co/", "http://", "https://")


def model_argument(
    name: str, *, nargs: int = 1, required: bool = True, as_written: bool = False
) -> Callable[[Function], Function]:
    """An argument of one or (nargs=-1) more model names.

    What `qm pull` took for a model of the hub becomes the name that it has here, unless it is
    wanted `as_written`.
    """
    return click.argument(
        name,
        nargs=nargs,
        required=required,
        shell_complete=_complete,
        callback=None if as_written else _named,
    )


def _named(_ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:  # Any: click's
    if isinstance(value, tuple):
        return tuple(map(_name, value))
    return value if value is None else _name(value)


def _name(text: str) -> str:
    if "@" not in text and not text.lower().startswith(_OTHER_FORMS):
        return text
    from qm.store.pull.reference import is_hub, parse_reference

    return str(parse_reference(text).name) if is_hub(text) else text


def _complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Names that begin so. Pressing Tab starts no daemon and prints no error."""
    from .connect import connect_if_running

    try:
        models = connect_if_running().get("/api/tags", limit_s=1.0)["models"]
    except QmError:
        return []
    names = (str(model["name"]).removesuffix(":latest") for model in models)
    return [name for name in names if name.lower().startswith(incomplete.lower())]
