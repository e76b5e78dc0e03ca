"""Ollama's route that builds a model. What comes from the hub is fetched by a job of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import web
from qm.modelfiles.create_request import from_create_request
from qm.modelfiles.spec import ModelSpec
from qm.store.manifests import ModelNotFound
from qm.store.name import InvalidName, Name

from ..services import Services
from .edge import Stream, answer, network_of, read_fields
from .fields import JsonObject
from .ollama_request import model_name
from .progress import last_progress, progress_lines

_PLAIN_JSON = "application/json"  # progress routes come without a charset


async def create(request: web.Request, services: Services) -> web.StreamResponse:
    """Builds a model in a job, with progress. What can be known at once is a 400."""
    fields = await read_fields(request, "api.CreateRequest")
    name = Name.parse(model_name(fields))
    document = fields.folded()
    spec, network = from_create_request(document), network_of(request)
    progress = _built(services, {"name": str(name), "request": document}, spec, network)
    if fields.boolean("stream", True):
        return await Stream(request).send(progress_lines(progress))
    return answer(await last_progress(progress), content_type=_PLAIN_JSON)


async def _built(
    services: Services, work: JsonObject, spec: ModelSpec, network: Mapping[str, str]
) -> AsyncGenerator[JsonObject]:
    """The steps of fetching, if there is something to fetch, then those of building."""
    if reference := await asyncio.to_thread(_to_fetch, services, spec):
        arguments = {"reference": reference, "full": bool(spec.quantize)}
        fetched: JsonObject = {}
        async with aclosing(services.jobs.run("fetch", arguments, network)) as steps:
            async for fetched in steps:
                if "files" not in fetched:
                    yield fetched
        work |= _with_files(work["request"], fetched)
    async with aclosing(services.jobs.run("create", work)) as steps:
        async for step in steps:
            yield step


def _to_fetch(services: Services, spec: ModelSpec) -> str:
    """The repository of the hub that FROM names, unless a model that is here is called so."""
    for source in spec.from_:
        if source.digest or not source.is_hub:
            continue
        try:
            services.store.manifests.read(Name.parse(source.text))
        except (InvalidName, ModelNotFound):
            return source.text
    return ""


def _with_files(document: JsonObject, fetched: JsonObject) -> JsonObject:
    """The request with the files in the place of the repository, and where they come from."""
    files = {**(document.get("files") or {}), **fetched["files"]}
    origin = {"repository": fetched["repository"], "commit": fetched["commit"]}
    return {"request": {**document, "from": "", "files": files}, "origin": origin}
