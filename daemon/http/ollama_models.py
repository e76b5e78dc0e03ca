"""Ollama's routes about models and blobs: list, show, create, copy, delete, upload."""

from __future__ import annotations

import asyncio
import math
import time

from aiohttp import web
from qm.modelfiles.model import Details, load_model, size_bytes
from qm.store.errors import InvalidRequest
from qm.store.layout import InvalidDigest, parse_digest
from qm.store.name import InvalidName, Name

from ..chat.options import chosen
from ..listing import Listed
from ..loaded import LoadedModel
from ..removal import remove
from ..runner.wire import Options
from ..services import Services
from .edge import JSON, answer, read_fields
from .fields import Fields, JsonObject
from .missing import COPIED, SHOWN, told_as
from .ollama_answer import timestamp
from .ollama_request import model_name
from .ollama_show import details, show_document

# Go's clients read the time into 64 bits of nanoseconds: "never" is as far as those reach.
_FOREVER_S = (2**63 - 1) / 1e9 - 10
_NO_BODY = {"Content-Type": JSON}  # of an error whose request was a HEAD
_UPLOAD_CHUNK_BYTES = 1 << 20


class InvalidDestination(InvalidRequest):
    """A copy's new name can't be used."""

    code = "invalid_name"


async def tags(_request: web.Request, services: Services) -> web.Response:
    """Every model, the newest first. Opens no weights."""
    listed = await asyncio.to_thread(services.listing.newest_first)
    return answer({"models": [_tag(each) for each in listed]})


async def show(request: web.Request, services: Services) -> web.Response:
    """All about one model."""
    fields = await read_fields(request, "api.ShowRequest")
    name = Name.parse(model_name(fields))
    with told_as(SHOWN):
        model = await asyncio.to_thread(load_model, services.store, name)
    verbose = fields.boolean("verbose", False)
    n_ctx = services.supervisor.prospects.context_of(model, chosen(model.parameters, Options()))
    document = await asyncio.to_thread(show_document, model, verbose, n_ctx)
    return answer(document)


async def ps(_request: web.Request, services: Services) -> web.Response:
    """The models in memory."""
    return answer({"models": [_loaded(row) for row in services.supervisor.loaded()]})


async def copy(request: web.Request, services: Services) -> web.Response:
    """A second name for a model."""
    fields = await read_fields(request, "api.CopyRequest")
    source = Name.parse(fields.text("source"))
    destination = _destination(fields)
    with told_as(COPIED):
        await asyncio.to_thread(services.store.manifests.copy, source, destination)
    return web.Response()


async def delete(request: web.Request, services: Services) -> web.Response:
    """Removes a model, and what only it needed."""
    fields = await read_fields(request, "api.DeleteRequest")
    await remove(services, Name.parse(model_name(fields)))
    return web.Response()


async def has_blob(request: web.Request, services: Services) -> web.Response:
    """Whether a blob is here; if so it stays until its manifest comes."""
    try:
        digest = _digest(request)
    except InvalidDigest:
        return web.Response(status=400, headers=_NO_BODY)
    kept = await asyncio.to_thread(services.store.blobs.keep, digest)
    return web.Response(status=200) if kept else web.Response(status=404, headers=_NO_BODY)


async def put_blob(request: web.Request, services: Services) -> web.Response:
    """Stores the body under its digest. A blob that is here already is not read again."""
    digest = _digest(request)
    if await asyncio.to_thread(services.store.blobs.keep, digest):
        return web.Response(status=200)
    upload = services.store.blobs.writer(digest=digest, size_bytes=request.content_length)
    writer = await asyncio.to_thread(upload.__enter__)
    try:
        async for data in request.content.iter_chunked(_UPLOAD_CHUNK_BYTES):
            await asyncio.to_thread(writer.write, data)
        await asyncio.to_thread(writer.commit)
    finally:
        await asyncio.shield(asyncio.to_thread(upload.__exit__, None, None, None))
    return web.Response(status=201)


def _digest(request: web.Request) -> str:
    """The digest of the path, also with the dash of blobs' file names."""
    text = request.match_info["digest"]
    return parse_digest(text.replace("sha256-", "sha256:", 1))


def _destination(fields: Fields) -> Name:
    text = fields.text("destination")
    try:
        return Name.parse(text)
    except InvalidName as error:
        raise InvalidDestination(f'destination "{text[:200]}" is invalid') from error


def _tag(listed: Listed) -> JsonObject:
    """One row. A damaged model is listed too, so that it can be seen and deleted."""
    summary, stored = listed.summary, listed.stored
    if summary is None:
        return _named(stored.name, stored.digest) | {
            "modified_at": timestamp(int(stored.modified_s * 1e9)),
            "size": size_bytes(stored.manifest),
            "details": {},
            "capabilities": [],
            "qm": {"error": listed.reason},
        }
    ours = {"qm": {"quality": summary.quality.to_json()}} if summary.quality else {}
    return _named(summary.name, summary.digest) | {
        "modified_at": timestamp(int(summary.modified_s * 1e9)),
        "size": summary.size_bytes,
        "details": details(summary.details) | _lengths(summary.details),
        "capabilities": list(summary.capabilities),
        **ours,
    }


def _named(name: Name, digest: str) -> JsonObject:
    return {"name": str(name), "model": str(name), "digest": digest.removeprefix("sha256:")}


def _lengths(told: Details) -> JsonObject:
    lengths = {"context_length": told.context_length, "embedding_length": told.embedding_length}
    return {name: value for name, value in lengths.items() if value}


def _loaded(row: LoadedModel) -> JsonObject:
    model = row.model
    expires_s = min(row.expires_at, time.time() + _FOREVER_S, _FOREVER_S)
    return _named(model.name, model.digest) | {
        "size": row.size_bytes,
        "details": details(model.details),
        "expires_at": timestamp(int(expires_s * 1e9)),
        "size_vram": row.size_vram_bytes,
        "context_length": row.context_length,
        "qm": {
            "state": row.state,
            "pid": row.pid,
            "users": row.n_users,
            "predicted_bytes": row.predicted_bytes,
            "actual_bytes": row.actual_bytes,
            "forever": math.isinf(row.expires_at),
            "placement": row.reason,
            "devices": [
                {
                    "device": one.device,
                    "predicted_bytes": one.predicted_bytes,
                    "actual_bytes": one.actual_bytes,
                }
                for one in row.devices
            ],
        },
    }
