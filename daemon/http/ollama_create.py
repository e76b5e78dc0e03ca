"""Ollama's route that builds a model. What comes from the hub is fetched by a job of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from aiohttp import web
from qm.modelfiles.create_request import from_create_request
from qm.modelfiles.quantization import AUTO, parse_quantize
from qm.modelfiles.spec import ModelSpec, Source
from qm.store.manifests import ModelNotFound
from qm.store.name import InvalidName, Name
from qm.store.pull.reference import parse_file_reference

from ..services import Services
from .edge import (
    PLAIN_JSON,
    Stream,
    answer,
    as_on_hub,
    network_of,
    read_fields,
    require_local,
)
from .fields import JsonObject
from .ollama_request import model_name
from .progress import last_progress, progress_lines


async def create(request: web.Request, services: Services) -> web.StreamResponse:
    """Builds a model in a job, with progress. What can be known at once is a 400."""
    fields = await read_fields(request, "api.CreateRequest")
    name = Name.parse(model_name(fields))
    document = fields.folded()
    if isinstance(source := document.get("from"), str):
        document["from"] = as_on_hub(request, source)
    spec, network = from_create_request(document), network_of(request)
    if spec.allow_pickle:
        require_local(request)
    progress = _built(services, {"name": str(name), "request": document}, spec, network)
    if fields.boolean("stream", True):
        return await Stream(request).send(progress_lines(progress))
    return answer(await last_progress(progress), content_type=PLAIN_JSON)


async def _built(
    services: Services, work: JsonObject, spec: ModelSpec, network: Mapping[str, str]
) -> AsyncGenerator[JsonObject]:
    """The steps of fetching, if there is something to fetch, then those of building."""
    for wanted in await asyncio.to_thread(_to_fetch, services, spec):
        arguments = {
            "reference": wanted.text,
            "part": wanted.part,
            "full": wanted.full,
            "pickles": spec.allow_pickle,
        }
        fetched: JsonObject = {}
        async with aclosing(services.jobs.run("fetch", arguments, network)) as steps:
            async for fetched in steps:
                if "files" not in fetched:
                    yield fetched
        work = _with_files(work, wanted, fetched)
    if spec.quantize and parse_quantize(spec.quantize).type == AUTO:
        work["machine"] = msgspec.to_builtins(await services.supervisor.prospects.for_builds())
    async with aclosing(services.jobs.run("create", work)) as steps:
        async for step in steps:
            yield step


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Something on the hub: which part of what repository, and where in the request it goes."""

    text: str
    part: str
    role: str
    files: str  # the request's key for files that are here
    named: str  # its key for what is on the hub
    full: bool = False  # weights that can still be quantised are preferred


def _to_fetch(services: Services, spec: ModelSpec) -> list[_Wanted]:
    """What the spec names on the hub. A model that is here and called so is not fetched."""
    full = bool(spec.quantize or spec.deltas or spec.adapters)
    wanted = [
        *_models(services, spec.from_, "model", "files", "from", full=full),
        *_models(
            services, spec.drafts, "draft", "draft_files", "draft", full=bool(spec.draft_quantize)
        ),
    ]
    for part, role, sources, files, named in (
        ("delta", "delta", spec.deltas, "delta_files", "delta_from"),
        ("adapter", "adapter", spec.adapters, "adapters", "adapter_from"),
        ("file", "imatrix", _one(spec.imatrix_file), "imatrix_file", "imatrix_from"),
        ("file", "calibration", _one(spec.calibration), "calibration", "calibration_from"),
    ):
        wanted += [
            _Wanted(each.text, part, role, files, named)
            for each in sources
            if each.is_hub and not each.digest
        ]
    return wanted


def _models(
    services: Services,
    sources: tuple[Source, ...],
    role: str,
    files: str,
    named: str,
    *,
    full: bool,
) -> list[_Wanted]:
    """The first of the models of the hub that is not here."""
    return [
        _Wanted(each.text, "model", role, files, named, full)
        for each in sources
        if each.is_hub and not each.digest and not _is_here(services, each.text)
    ][:1]


def _one(source: Source | None) -> tuple[Source, ...]:
    return () if source is None else (source,)


def _is_here(services: Services, text: str) -> bool:
    try:
        services.store.manifests.read(Name.parse(text))
    except (InvalidName, ModelNotFound):
        return False
    return True


def _with_files(work: JsonObject, wanted: _Wanted, fetched: JsonObject) -> JsonObject:
    """The work with files in the place of what is on the hub, and where they come from."""
    request, origin = dict(work["request"]), dict(work.get("origin") or {})
    request[wanted.files] = {**(request.get(wanted.files) or {}), **fetched["files"]}
    request.pop(wanted.named, None)
    if wanted.role == "model":
        origin |= {"repository": fetched["repository"], "commit": fetched["commit"]}
        request = _with_defaults(request, fetched["defaults"])
    else:
        path = parse_file_reference(wanted.text).file if wanted.part == "file" else ""
        file = f"/{path}" if path else ""
        said = f"{fetched['repository']}{file}@{fetched['commit']}"
        origin["sources"] = {**origin.get("sources", {}), wanted.role: said}
    return work | {"request": request, "origin": origin}


def _with_defaults(request: JsonObject, defaults: JsonObject) -> JsonObject:
    """The request, and what it does not say itself; parameters one by one."""
    said = {key: value for key, value in request.items() if value is not None}
    parameters = {**defaults.get("parameters", {}), **(said.get("parameters") or {})}
    return {**defaults, **said, **({"parameters": parameters} if parameters else {})}
