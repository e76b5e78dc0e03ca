"""Every dialect that the daemon speaks: the `DIALECT` of each module in `dialects/`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from aiohttp import web

from . import dialects
from .dialect import Dialect, install
from .guard import install_guard


def spoken() -> tuple[Dialect, ...]:
    """All dialects, by the names of their modules."""
    names = [found.name for found in iter_modules(dialects.__path__)]
    return tuple(import_module(f"{dialects.__name__}.{name}").DIALECT for name in names)


def install_http(app: web.Application) -> None:
    """Puts routes, guard and error rim into `app`, which must hold `SERVICES` when it runs."""
    install(app, spoken())
    install_guard(app)
