"""One who asks for a loaded model: from the question until all is read that came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from qm.modelfiles.model import Model

from .loaded import Process
from .placing import Fit
from .runner.wire import Options
from .scheduler import Request


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
