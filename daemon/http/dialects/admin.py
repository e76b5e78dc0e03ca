"""qm's own routes, which its command line uses."""

from __future__ import annotations

import asyncio
import base64
import os
from importlib.metadata import version
from pathlib import Path
from typing import Final

from aiohttp import web
from qm.modelfiles.build.calibrated import own_calibration
from qm.store.gc import collect
from qm.store.layout import parse_digest
from qm.store.name import Name
from qm.store.usage import Usage, usage

from ...moving import move_store
from ...removal import remove
from ...services import Services
from ...settings import capture_directory
from ..dialect import Dialect, Route
from ..edge import LocalOnly, Stream, answer, is_local, network_of, read_body, read_fields
from ..fields import Fields, JsonObject, decode
from ..ollama_request import InvalidField, model_name
from ..placement import PLACEMENT_ROUTES
from ..progress import progress_lines

VERSION: Final = version("qm")


async def _status(_request: web.Request, services: Services) -> web.Response:
    lifecycle, settings = services.lifecycle, services.settings
    return answer(
        {
            "pid": os.getpid(),
            "version": VERSION,
            "uptime_s": round(lifecycle.uptime_s, 3),
            "socket": str(settings.socket),
            "host": lifecycle.address,
            "store": str(services.store.layout.root),
            "log": str(settings.log_file),
            "captures": str(capture_directory(settings)) if settings.capture else None,
            "models": [row.name for row in services.supervisor.loaded()],
            "jobs": services.jobs.running(),
            "requests": lifecycle.requests,
        }
    )


async def _shutdown(_request: web.Request, services: Services) -> web.Response:
    services.lifecycle.stop.set()
    return answer({"status": "shutting down"}, status=202)


async def _unload(request: web.Request, services: Services) -> web.Response:
    """Answers when the process is reaped. An unknown model is 404, an idle one `false`."""
    name = Name.parse(model_name(await read_fields(request)))
    stored = await asyncio.to_thread(services.store.manifests.read, name)
    return answer({"unloaded": await services.supervisor.unload(str(stored.name))})


async def _remove(request: web.Request, services: Services) -> web.Response:
    name = Name.parse(model_name(await read_fields(request)))
    return answer({"freed_bytes": await remove(services, name)})


async def _adopt(request: web.Request, services: Services) -> web.StreamResponse:
    """Takes a file of this user in. Nobody may make us open files from afar."""
    if not is_local(request):
        raise LocalOnly("adopting files works over the unix socket only")
    path = _require_absolute((await read_fields(request)).text("path"))
    return await Stream(request).send(progress_lines(services.jobs.run("adopt", {"path": path})))


async def _eval(request: web.Request, services: Services) -> web.StreamResponse:
    """Measures a model; the text is a blob that was sent before, or the one that comes with qm."""
    fields = await read_fields(request)
    arguments: JsonObject = {"model": str(Name.parse(model_name(fields)))}
    if base := fields.text("base"):
        arguments["base"] = str(Name.parse(base))
    arguments |= _read_over(fields)
    return await Stream(request).send(progress_lines(services.jobs.run("evaluate", arguments)))


async def _calibration(request: web.Request, services: Services) -> web.Response:
    """The text of its own that a model was calibrated on; empty where it has none."""
    name = Name.parse(model_name(await read_fields(request)))
    digest, data = await asyncio.to_thread(own_calibration, services.store, name)
    return answer({"digest": digest, "data": base64.b64encode(data).decode()})


async def _compare(request: web.Request, services: Services) -> web.StreamResponse:
    """Measures `models` beside their `base`; text and chunks as for one model."""
    fields = await read_fields(request)
    arguments: JsonObject = {
        "base": str(Name.parse(fields.text("base"))),
        "models": [str(Name.parse(each)) for each in fields.texts("models")],
        **_read_over(fields),
    }
    return await Stream(request).send(progress_lines(services.jobs.run("compare", arguments)))


def _read_over(fields: Fields) -> JsonObject:
    """What a measurement reads, and how much of it, where the request says so."""
    over: JsonObject = {}
    if text := fields.text("text"):
        over["text"] = parse_digest(text)
    if chunks := fields.integer("chunks"):
        over["chunks"] = chunks
    return over


async def _rebuild(request: web.Request, services: Services) -> web.StreamResponse:
    """Builds a model's weights anew and compares; keeps the model as it is."""
    name = Name.parse(model_name(await read_fields(request)))
    return await Stream(request).send(
        progress_lines(services.jobs.run("rebuild", {"model": str(name)}))
    )


async def _import(request: web.Request, services: Services) -> web.StreamResponse:
    """Finds models below folders of this user and takes them in."""
    if not is_local(request):
        raise LocalOnly("importing works over the unix socket only")
    fields = await read_fields(request)
    paths = fields.texts("paths")
    for path in paths:
        _require_absolute(path)
    arguments = {
        "paths": list(paths),
        "dry_run": fields.boolean("dry_run", False),
        "copy": fields.boolean("copy", False),
        "name": str(Name.parse(name)) if (name := fields.text("name")) else "",
    }
    return await Stream(request).send(progress_lines(services.jobs.run("import", arguments)))


async def _export(request: web.Request, services: Services) -> web.StreamResponse:
    """Writes a model out, as this user."""
    if not is_local(request):
        raise LocalOnly("exporting works over the unix socket only")
    fields = await read_fields(request)
    path = _require_absolute(fields.text("path"))
    arguments = {
        "model": str(Name.parse(model_name(fields))),
        "path": path,
        "ollama": fields.boolean("ollama", False),
    }
    return await Stream(request).send(progress_lines(services.jobs.run("export", arguments)))


async def _move(request: web.Request, services: Services) -> web.StreamResponse:
    """Moves the store to another directory of this user."""
    if not is_local(request):
        raise LocalOnly("moving the store works over the unix socket only")
    path = Path(_require_absolute((await read_fields(request)).text("path")))
    return await Stream(request).send(progress_lines(move_store(services, path)))


def _require_absolute(path: str) -> str:
    if not os.path.isabs(path):  # noqa: PTH117  the text goes on as it is
        raise InvalidField("path must be absolute")
    return path


async def _verify(request: web.Request, services: Services) -> web.StreamResponse:
    fields = await _optional_fields(request)
    model = fields.text("model") or fields.text("name")
    arguments = {"model": str(Name.parse(model))} if model else {}
    kind = "repair" if fields.boolean("repair", False) else "verify"
    progress = services.jobs.run(kind, arguments, network_of(request))
    return await Stream(request).send(progress_lines(progress))


async def _gc(request: web.Request, services: Services) -> web.Response:
    dry_run = (await _optional_fields(request)).boolean("dry_run", False)
    collected = await asyncio.to_thread(collect, services.store, dry_run=dry_run)
    return answer(
        {
            "deleted": [
                {"digest": blob.digest, "size": blob.size_bytes} for blob in collected.deleted
            ],
            "kept": [
                {"digest": blob.digest, "size": blob.size_bytes, "reason": blob.keeper}
                for blob in collected.kept
            ],
            "partials": len(collected.partials),
            "freed_bytes": collected.freed_bytes,
            "dry_run": dry_run,
        }
    )


async def _df(_request: web.Request, services: Services) -> web.Response:
    return answer(_usage(await asyncio.to_thread(usage, services.store)))


async def _optional_fields(request: web.Request) -> Fields:
    """The body's fields; no body means that none is set."""
    body = await read_body(request)
    return Fields(decode(body) if body.strip() else {})


def _usage(used: Usage) -> JsonObject:
    return {
        "models": [
            {
                "name": model.name,
                "size": model.own_bytes + model.shared_bytes,
                "own": model.own_bytes,
                "shared": model.shared_bytes,
            }
            for model in used.models
        ],
        "blobs": [
            {
                "digest": blob.digest,
                "size": blob.size_bytes,
                "kind": blob.kind,
                "source": blob.source,
                "models": list(blob.models),
            }
            for blob in used.blobs
        ],
        "unreadable": [
            {"path": str(entry.path), "reason": entry.reason} for entry in used.unreadable
        ],
        "total_bytes": used.total_bytes,
        "orphan_bytes": used.orphan_bytes,
        "partial_bytes": used.partial_bytes,
        "disk_free_bytes": used.disk_free_bytes,
        "disk_total_bytes": used.disk_total_bytes,
    }


DIALECT = Dialect(
    name="admin",
    routes=(
        Route("GET", "/qm/status", _status),
        Route("POST", "/qm/shutdown", _shutdown),
        Route("POST", "/qm/unload", _unload),
        Route("POST", "/qm/rm", _remove),
        Route("POST", "/qm/adopt", _adopt),
        Route("POST", "/qm/eval", _eval),
        Route("POST", "/qm/compare", _compare),
        Route("POST", "/qm/calibration", _calibration),
        Route("POST", "/qm/import", _import),
        Route("POST", "/qm/rebuild", _rebuild),
        Route("POST", "/qm/export", _export),
        Route("POST", "/qm/verify", _verify),
        Route("POST", "/qm/gc", _gc),
        Route("GET", "/qm/df", _df),
        Route("POST", "/qm/store/move", _move),
        *PLACEMENT_ROUTES,
    ),
)
