"""What a repository's model says about itself, read from its files' beginnings alone."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import QmError
from ..gguf import GgufInvalid, Header, read_header
from .choose import RepoFile, choose
from .connection import BROKEN, Connection
from .hub import HubUnreachable, Listing, list_repo
from .reference import Reference

MOST_BYTES = 19 << 20  # of all files together
# A vocabulary makes a header of some MiB; parts after the first have none, and may be dozens.
_STEPS = (1 << 16, 1 << 20, 4 << 20, 8 << 20, 12 << 20, 16 << 20)
_CHUNK = 1 << 18
_STALL_S = 30.0


class HeaderTooLong(QmError):
    """The headers don't end within what may be read of them."""

    code = "header_too_long"


@dataclass(frozen=True, slots=True)
class Peek:
    """A model that is not here yet: the headers of all its parts, and what comes with it."""

    headers: tuple[Header, ...]
    projector_bytes: int
    size_bytes: int
    quant: str
    read_bytes: int


def peek(reference: Reference, endpoint: str | None = None) -> Peek:
    """Reads the headers of the model that `reference` means, by ranges.

    Raises what `list_repo` and `choose` raise, GgufInvalid, HeaderTooLong, HubUnreachable.
    """
    listing = list_repo(reference.repo, reference.revision, endpoint)
    chosen = choose(listing.files, reference)
    headers, spent = [], 0
    with Connection(listing.policy(), stall_s=_STALL_S) as connection:
        for part in chosen.variant.parts:
            header, read = _header(listing, part, connection, MOST_BYTES - spent)
            headers.append(header)
            spent += read
    return Peek(
        headers=tuple(headers),
        projector_bytes=chosen.projector.size_bytes if chosen.projector else 0,
        size_bytes=chosen.variant.size_bytes,
        quant=chosen.variant.quant,
        read_bytes=spent,
    )


def _header(
    listing: Listing, file: RepoFile, connection: Connection, limit: int
) -> tuple[Header, int]:
    """The header, and how many bytes were read for it.

    They go into a file as long as the whole one, with a hole where the weights would be, so that
    the reader checks every tensor's place against the true length.
    """
    with tempfile.NamedTemporaryFile() as hollow:
        os.ftruncate(hollow.fileno(), file.size_bytes)
        have = 0
        for step in _STEPS:
            until = min(step, file.size_bytes, limit)
            have = _fetch(listing, file, connection, hollow.file, (have, until))
            try:
                header = read_header(Path(hollow.name))
            except GgufInvalid:
                if have >= file.size_bytes:
                    raise
                continue  # it goes on beyond what is here
            if header.data_offset <= have:
                return header, have
    raise HeaderTooLong(f"the header of {file.path} is longer than {have} bytes")


def _fetch(
    listing: Listing,
    file: RepoFile,
    connection: Connection,
    hollow: IO[bytes],
    span: tuple[int, int],
) -> int:
    """Writes the bytes of `span` where they belong; how far the file is known then."""
    start, until = span
    if start >= until:
        return start
    try:
        answer = connection.get(listing.locate(file.path), {"Range": f"bytes={start}-{until - 1}"})
        if answer.status != 206 and not (answer.status == 200 and start == 0):
            raise HubUnreachable(f"{file.path} can't be read: status {answer.status}")
        hollow.seek(start)
        buffer = memoryview(bytearray(_CHUNK))
        while start < until and (count := answer.readinto(buffer[: until - start])):
            hollow.write(buffer[:count])
            start += count
        hollow.flush()
        if answer.length != 0:  # a server that ignored the range would send it all
            connection.close()
    except BROKEN as error:
        raise HubUnreachable(f"{file.path} can't be read: {error}") from error
    return start
