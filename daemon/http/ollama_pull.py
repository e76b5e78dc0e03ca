"""`POST /api/pull`: a model from the Hugging Face hub, with Ollama's progress objects."""

from __future__ import annotations

from aiohttp import web
from qm.store.errors import InvalidRequest
from qm.store.pull.reference import is_hub, parse_reference

from ..services import Services
from .edge import Stream, answer, read_fields
from .fields import Fields, JsonObject
from .ollama_request import InvalidField, model_name
from .progress import last_progress, progress_lines

_PLAIN_JSON = "application/json"  # progress routes come without a charset


class NoSuchSource(InvalidRequest):
    """A name that does not say where the model is to come from."""

    code = "no_such_source"


async def pull(request: web.Request, services: Services) -> web.StreamResponse:
    """Downloads in a job, one for all who ask for the same. What can be known at once is a 400.

    Besides Ollama's fields: `limit_rate`, bytes a second.
    """
    fields = await read_fields(request)
    progress = services.jobs.run("pull", _arguments(fields))
    if fields.boolean("stream", True):
        return await Stream(request).send(progress_lines(progress))
    return answer(await last_progress(progress), content_type=_PLAIN_JSON)


def _arguments(fields: Fields) -> JsonObject:
    model = model_name(fields)
    if not is_hub(model):
        raise NoSuchSource(
            f"can't pull {model[:200]!r}: write hf.co/org/repo or hf.co/org/repo:QUANT"
        )
    reference = parse_reference(model)
    str(reference.name)  # refuses what could not be kept under any name
    limit_rate = fields.integer("limit_rate", 0)
    if limit_rate < 0:
        raise InvalidField("limit_rate must not be negative")
    arguments: JsonObject = {"model": model.strip()}
    return arguments | ({"limit_rate": limit_rate} if limit_rate else {})
