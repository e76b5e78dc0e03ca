"""The argument that names a model, with completion by the names that are here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from qm.store.errors import QmError

Function = TypeVar("Function", bound=Callable[..., object])


_ADDRESSES = ("http://", "https://")
_OTHER_FORMS = ("hf:", "huggingface.co/", *_ADDRESSES)


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


def as_on_hub(text: str) -> str:
    """The hub's address of a page that `text` shows on HF_ENDPOINT's mirror; all else as it is."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if not endpoint or not text.strip().lower().startswith(_ADDRESSES):
        return text
    from qm.store.pull.reference import of_hub

    return of_hub(text, endpoint)


def local_name(text: str) -> str:
    """The name that a model has here, by whatever `qm pull` took for it."""
    if "@" not in text and not text.strip().lower().startswith(_OTHER_FORMS):
        return text
    from qm.store.pull.reference import is_hub, parse_reference

    text = as_on_hub(text)
    return str(parse_reference(text).name) if is_hub(text) else text


def _named(_ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:  # Any: click's
    if isinstance(value, tuple):
        return tuple(map(local_name, value))
    return value if value is None else local_name(value)


def _complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Names that begin so. Pressing Tab starts no daemon and prints no error."""
    from .connect import connect_if_running

    try:
        models = connect_if_running().get("/api/tags", limit_s=1.0)["models"]
    except QmError:
        return []
    names = (str(model["name"]).removesuffix(":latest") for model in models)
    return [name for name in names if name.lower().startswith(incomplete.lower())]
