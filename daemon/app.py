"""The daemon's parts, put together: services for the handlers, and the application around them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler
from qm.modelfiles.models import Models
from qm.store.store import Store

from .chat.embedding import EmbeddingService
from .chat.render import Renderer
from .chat.service import ChatService
from .chat.tokens import TokenService
from .http.edge import is_local
from .http.routes import install_http
from .jobs import Jobs
from .listen import peer_uid
from .listing import Listing
from .meter import Meter
from .patience import PATIENCE, Patience
from .planner import Planner
from .prober import Prober
from .services import SERVICES, Lifecycle, Services
from .settings import Settings
from .supervisor import Supervisor


@asynccontextmanager
async def running_services(
    settings: Settings, store: Store, lifecycle: Lifecycle
) -> AsyncIterator[Services]:
    """Every part, working; at the end all that they started is stopped and reaped."""
    renderer, meter, models = Renderer(), Meter(), Models(store)
    prober = Prober(settings.log_file.parent)
    planner = Planner(settings, prober, store.layout)
    supervisor_ = Supervisor(settings, meter=meter, planner=planner, layout=store.layout)
    jobs = Jobs(
        settings.home,
        max_running=settings.max_jobs,
        log_directory=settings.log_file.parent,
        board=supervisor_.board,
    )
    async with supervisor_.running() as supervisor:
        prober.warm()
        try:
            yield Services(
                settings=settings,
                store=store,
                supervisor=supervisor,
                renderer=renderer,
                jobs=jobs,
                chat=ChatService(store, models, supervisor, renderer, meter),
                embeddings=EmbeddingService(models, supervisor),
                tokens=TokenService(models, supervisor),
                meter=meter,
                lifecycle=lifecycle,
                listing=Listing(store),
            )
        finally:
            await jobs.close()
            await prober.close()
            await renderer.close()


def build_app(services: Services) -> web.Application:
    """The application that answers for these services."""
    app = web.Application(
        client_max_size=services.settings.max_body_bytes, middlewares=[_own_peers_only]
    )
    app[SERVICES] = services
    app[PATIENCE] = Patience(services.settings.read_timeout_s)
    install_http(app)
    return app


@web.middleware
async def _own_peers_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Over the unix socket, answer nobody but the user whose daemon this is, and root.

    The socket's mode says so too; this holds where a system ignores modes of sockets.
    """
    if is_local(request) and not _is_own_peer(request):
        return web.Response(status=403)
    return await handler(request)


def _is_own_peer(request: web.Request) -> bool:
    transport = request.transport
    if transport is None:  # hung up already
        return False
    return peer_uid(transport.get_extra_info("socket")) in (os.getuid(), 0)
