"""What those who run the daemon ask it: its metrics."""

from __future__ import annotations

from collections import Counter

from aiohttp import web

from ..keys import Scope
from ..meter import Sample
from ..services import Services
from .dialect import Dialect, Route

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


async def _metrics(_request: web.Request, services: Services) -> web.Response:
    text = services.meter.text(_gauges(services))
    return web.Response(body=text.encode(), headers={"Content-Type": _PROMETHEUS})


def _gauges(services: Services) -> dict[str, list[Sample]]:
    """What is so at the moment."""
    supervisor = services.supervisor
    rows = supervisor.loaded()
    jobs = Counter(str(job["kind"]) for job in services.jobs.running())
    memory: list[Sample] = []
    for row in rows:
        size = row.actual_bytes or row.size_bytes
        on_devices = min(row.size_vram_bytes, size)
        memory.append(({"model": row.name, "device": "host"}, size - on_devices))
        memory.append(({"model": row.name, "device": "gpu"}, on_devices))
    return {
        "qm_models_loaded": [({}, len(rows))],
        "qm_model_memory_bytes": memory,
        "qm_requests_running": [({}, supervisor.n_users)],
        "qm_requests_waiting": [({}, supervisor.n_waiting)],
        "qm_jobs_running": [({"kind": kind}, count) for kind, count in sorted(jobs.items())],
        "qm_uptime_seconds": [({}, services.lifecycle.uptime_s)],
    }


OPERATIONS = Dialect(
    name="operations",
    scope=Scope.CHAT,
    routes=(Route("GET", "/metrics", _metrics),),
)
