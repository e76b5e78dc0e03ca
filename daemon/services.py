"""What an HTTP handler may use: the daemon's parts, handed over by `app.build_app`."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from qm.store.store import Store

    from .chat.embedding import EmbeddingService
    from .chat.render import Renderer
    from .chat.service import ChatService
    from .chat.tokens import TokenService
    from .jobs import Jobs
    from .listing import Listing
    from .meter import Meter
    from .settings import Settings
    from .supervisor import Supervisor


@dataclass(slots=True)
class Lifecycle:
    """What is known only once the daemon runs. Setting `stop` ends it: drain, then exit."""

    address: str | None = None  # host:port with the real port; None while no TCP is served
    started_s: float = field(default_factory=time.monotonic)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    requests: int = 0  # answered since the start
    moving: asyncio.Task[None] | None = None  # the store, to another place
    claimed: set[Path] = field(default_factory=set)  # places that no other daemon may serve now
    claims: ExitStack = field(default_factory=ExitStack)  # of those that the store moved to

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.started_s


@dataclass(frozen=True, slots=True)
class Services:
    """One of each; built once, never replaced."""

    settings: Settings
    store: Store
    supervisor: Supervisor
    renderer: Renderer
    jobs: Jobs
    chat: ChatService
    embeddings: EmbeddingService
    tokens: TokenService
    meter: Meter
    lifecycle: Lifecycle
    listing: Listing


SERVICES: web.AppKey[Services] = web.AppKey("services")
