"""When all bytes are here and the digest is wrong: the same bytes again, step by step, compared.

Nobody can tell which step is wrong, so each is fetched again until the digest is right; only what
differs is written.
"""

from __future__ import annotations

import os

from ..durable import disk_error
from .connection import BROKEN, Connection, Located
from .front import STEP_BYTES, Front
from .partial import Partial

_READ_BYTES = 256 << 10


def mend(
    connection: Connection, located: Located, partial: Partial, front: Front, digest: str
) -> bool:
    """Whether the file became what it should be."""
    for number in reversed(range(len(front.states))):  # the last one nobody has compared before
        start = number * STEP_BYTES
        stop = min(start + STEP_BYTES, front.work.size_bytes)
        try:
            changed = stop > start and _refetch(connection, located, partial, start, stop)
        except BROKEN:
            return False
        if changed and _digest_from(front, number) == digest:
            return True
    return False


def _refetch(
    connection: Connection, located: Located, partial: Partial, start: int, stop: int
) -> bool:
    """Puts the source's bytes in place; whether they were others. Raises BROKEN, disk_error."""
    answer = connection.get(located, {"Range": f"bytes={start}-{stop - 1}"})
    if answer.status != 206:
        raise OSError(f"the server answered {answer.status}")
    view, changed, at = memoryview(bytearray(_READ_BYTES)), False, start
    while at < stop:
        n_bytes = answer.readinto(view[: min(_READ_BYTES, stop - at)])
        if n_bytes == 0:
            raise OSError("the connection ended early")
        changed |= _replaced(partial, view[:n_bytes], at)
        at += n_bytes
    return changed


def _replaced(partial: Partial, data: memoryview, at: int) -> bool:
    """Whether other bytes were there. Raises disk_error: that is no fault of the source."""
    try:
        if os.pread(partial.data_fd, len(data), at) == data:
            return False
        done = 0
        while done < len(data):
            done += os.pwrite(partial.data_fd, data[done:], at + done)
    except OSError as error:
        raise disk_error(error, "mending a download") from error
    return True


def _digest_from(front: Front, number: int) -> str:
    """The file's digest, when everything before this step stands."""
    hasher, at = front.states[number].copy(), number * STEP_BYTES
    del front.states[number + 1 :]
    while at < front.work.size_bytes:
        at = front.read_into(hasher, at, front.work.size_bytes)
        if at % STEP_BYTES == 0:
            front.states.append(hasher.copy())
    return f"sha256:{hasher.hexdigest()}"
