"""What those who run the daemon ask it: its metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from ...hardware import read_machine
from ...keys import Scope
from ...loaded import LoadedModel
from ...meter import Sample
from ...services import Services
from ..dialect import Dialect, Route
from ..schema import Told

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


async def _metrics(_request: web.Request, services: Services) -> web.Response:
    text = services.meter.text(_gauges(services))
    return web.Response(body=text.encode(), headers={"Content-Type": _PROMETHEUS})


def _gauges(services: Services) -> dict[str, list[Sample]]:
    """What is so at the moment."""
    supervisor = services.supervisor
    rows = supervisor.loaded()
    jobs = Counter(str(job["kind"]) for job in services.jobs.running())
    host = read_machine()
    return {
        "qm_models_loaded": [({}, len(rows))],
        "qm_model_memory_bytes": [sample for row in rows for sample in _memory(row)],
        "qm_host_memory_bytes": [({}, host.total_bytes)],
        "qm_host_memory_available_bytes": [({}, host.available_bytes)],
        "qm_requests_running": [({}, supervisor.n_users)],
        "qm_requests_waiting": [({}, supervisor.n_waiting)],
        "qm_jobs_running": [({"kind": kind}, count) for kind, count in sorted(jobs.items())],
        "qm_uptime_seconds": [({}, services.lifecycle.uptime_s)],
    }


def _memory(row: LoadedModel) -> Iterator[Sample]:
    """What it takes of each device: as llama.cpp reports it, before that as predicted."""
    for device in row.devices:
        size = device.predicted_bytes if device.actual_bytes is None else device.actual_bytes
        yield {"model": row.name, "device": device.device}, size


DIALECT = Dialect(
    name="operations",
    scope=Scope.CHAT,
    routes=(Route("GET", "/metrics", _metrics, told=Told("Metrics for Prometheus", text=True)),),
)
