"""`POST /api/pull` and `/api/push`: models from the hub, from and to registries."""

from __future__ import annotations

from aiohttp import web
from qm.store.pull.reference import is_hub, parse_reference

from ..registries import Asker, endpoint, parse_image
from ..services import Services
from .edge import PLAIN_JSON, Stream, answer, as_on_hub, is_local, network_of, read_fields
from .fields import Fields, JsonObject
from .ollama_request import InvalidField, model_name
from .progress import last_progress, progress_lines


async def pull(request: web.Request, services: Services) -> web.StreamResponse:
    """Downloads in a job, one for all who ask for the same. What can be known at once is a 400.

    Besides Ollama's fields: `limit_rate`, bytes a second.
    """
    fields = await read_fields(request)
    arguments = _limit(fields)
    if is_hub(model := as_on_hub(request, model_name(fields))):
        reference = parse_reference(model)
        str(reference.name)  # refuses what could not be kept under any name
        arguments |= {"model": model.strip()}
    else:
        name = parse_image(model)
        asker = Asker(is_local(request), fields.boolean("insecure", False))
        arguments |= {"model": str(name), "registry": endpoint(name, services.settings, asker)}
    return await _run(request, services, "pull", fields, arguments)


async def push(request: web.Request, services: Services) -> web.StreamResponse:
    """Sends a model to the registry of its name, or of `destination`."""
    fields = await read_fields(request)
    name = parse_image(model_name(fields))
    target = parse_image(fields.text("destination") or str(name))
    asker = Asker(is_local(request), fields.boolean("insecure", False))
    registry = endpoint(target, services.settings, asker)
    arguments = {"model": str(name), "target": str(target), "registry": registry}
    return await _run(request, services, "push", fields, arguments)


async def _run(
    request: web.Request, services: Services, kind: str, fields: Fields, arguments: JsonObject
) -> web.StreamResponse:
    progress = services.jobs.run(kind, arguments, network_of(request))
    if fields.boolean("stream", True):
        return await Stream(request).send(progress_lines(progress))
    return answer(await last_progress(progress), content_type=PLAIN_JSON)


def _limit(fields: Fields) -> JsonObject:
    limit_rate = fields.integer("limit_rate", 0)
    if limit_rate < 0:
        raise InvalidField("limit_rate must not be negative")
    return {"limit_rate": limit_rate} if limit_rate else {}
