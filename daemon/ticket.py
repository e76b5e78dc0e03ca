"""Who asks for a loaded model and gets it: from the question until all is read that came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from qm.modelfiles.model import Model

from .loaded import Process
from .placing import Fit
from .runner.process import Runner
from .runner.wire import Loaded, Options, Placement
from .scheduler import Request


@dataclass(frozen=True, slots=True)
class Use:
    """A loaded model, yours until the context ends or you release it."""

    runner: Runner
    loaded: Loaded
    placement: Placement
    load_ns: int  # from asking to getting it, queue included
    release: Callable[[], None]  # lets others have it; what came from it may still be read


@dataclass(slots=True)
class Ticket:
    """What a request asked for, where that would go, and what it was granted.

    Once `released`, the model is others' to use.
    """

    request: Request
    model: Model
    wishes: Options
    fit: Fit
    granted: asyncio.Future[Process]
    released: bool = False
