"""Forms with files (`multipart/form-data`), read within the limits of any other body."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from qm.store.errors import InvalidRequest

from ..patience import in_time
from ..services import SERVICES
from .encoding import BodyTooLarge

_CHUNK_BYTES = 65_536
_MOST_PARTS = 64


class NoForm(InvalidRequest):
    """The body is no form, or a broken one."""

    code = "invalid_form"

    def __init__(self, reason: str) -> None:
        super().__init__(f"failed to parse multipart form: {reason}")


@dataclass(frozen=True, slots=True)
class Form:
    """The texts of a form by name, the last of each, and its files."""

    texts: Mapping[str, str]
    files: Mapping[str, bytes]


async def read_form(request: web.Request) -> Form:
    """Raises NoForm, BodyTooLarge and RequestTooSlow."""
    if request.content_type != "multipart/form-data":
        raise NoForm("request Content-Type isn't multipart/form-data")
    limit_s = request.app[SERVICES].settings.read_timeout_s
    with in_time(limit_s):
        async with asyncio.timeout(limit_s):
            try:
                return await _parts(request)
            except (ValueError, AssertionError, LookupError) as error:
                raise NoForm(str(error)[:200] or "its parts can't be told apart") from error
            except HttpProcessingError as error:
                raise NoForm("the headers of a part can't be read") from error


async def _parts(request: web.Request) -> Form:
    texts: dict[str, str] = {}
    files: dict[str, bytes] = {}
    left, n_parts = request.client_max_size, 0
    async for part in await request.multipart():
        n_parts += 1
        if n_parts > _MOST_PARTS or not isinstance(part, BodyPartReader):
            raise NoForm(f"more than {_MOST_PARTS} parts, or parts within parts")
        data = await _content(part, left, request.client_max_size)
        left -= len(data)
        name = part.name or ""
        if part.filename is None:
            texts[name] = data.decode("utf-8", "replace")
        else:
            files[name] = data
    return Form(texts, files)


async def _content(part: BodyPartReader, left: int, limit: int) -> bytes:
    """The part as it came: whoever packs it differently is not understood."""
    data = bytearray()
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        data += chunk
        if limit and len(data) > left:
            raise BodyTooLarge(limit)
    return bytes(data)
