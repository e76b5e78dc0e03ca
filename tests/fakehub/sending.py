"""Sending a file's bytes, whole or in part, with the faults that strike on the way."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from .faults import Fault
from .repos import Blob

CHUNK_BYTES = 256 * 1024

Entry = dict[str, Any]
"""One line of the hub's log."""


async def send(
    request: web.Request,
    blob: Blob,
    etag: str,
    headers: Mapping[str, str],
    faults: Mapping[str, Fault],
    entry: Entry,
) -> web.StreamResponse:
    """The file, or the part that was asked for."""
    if "etag" in faults:
        etag = '"changed"'
    common = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    common |= headers
    asked = None if "norange" in faults else _asked_range(request, etag, blob.size)
    start, stop = asked or (0, blob.size)
    if "badrange" in faults:
        start = max(0, start - 1)
    if start >= stop and asked:
        return web.Response(status=416, headers={**common, "Content-Range": f"bytes */{blob.size}"})
    if asked:
        common["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
    if cut := faults.get("truncate"):
        stop = min(stop, start + cut.bytes)
    response = web.StreamResponse(status=206 if asked else 200, headers=common)
    response.content_length = stop - start
    await response.prepare(request)
    if request.method != "HEAD":
        with contextlib.suppress(ConnectionError):  # clients may go, that is what tests are about
            await _body(response, request, blob, (start, stop), faults, entry)
    return response


def _asked_range(request: web.Request, etag: str, size: int) -> tuple[int, int] | None:
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if not asked or not any(asked.groups()) or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = asked.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1 if last else size, size)


async def _body(
    response: web.StreamResponse,
    request: web.Request,
    blob: Blob,
    part: tuple[int, int],
    faults: Mapping[str, Fault],
    entry: Entry,
) -> None:
    start, stop = part
    breaks = [fault for kind in ("drop", "stall") if (fault := faults.get(kind))]
    limit = min([stop] + [start + fault.bytes for fault in breaks])
    bad, slow = faults.get("corrupt"), faults.get("slow")
    with blob.file.open("rb", buffering=0) as file:
        file.seek(start)
        at = start
        while at < limit:
            data = file.read(min(CHUNK_BYTES, limit - at))
            if bad and at <= bad.bytes < at + len(data):
                data = _with_bad_byte(data, bad.bytes - at)
            await response.write(data)
            at += len(data)
            entry["sent"] = at - start
            if slow:
                await asyncio.sleep(len(data) / slow.rate)
    if stall := faults.get("stall"):
        await asyncio.sleep(stall.seconds)
    if limit < stop and request.transport is not None:
        request.transport.close()  # sends what was written, then ends the connection early


def _with_bad_byte(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 0xFF
    return bytes(changed)
