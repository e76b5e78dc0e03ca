"""Bad blobs made good: what is wrong in them is fetched again from where they came from.

The bad file becomes a download that is nearly through: its beginnings are compared with those that
were noted when it was sound, and only the steps that differ are fetched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..claims import end_claims
from ..durable import clone, disk_error, sync_directory
from ..errors import NotFound
from ..hashing import chunks
from ..layout import Layout
from ..leases import hold
from ..locks import naming, publishing
from ..store import Store
from .addresses import Policy
from .download import Progress, Wanted, download
from .origin import Origin, read_origin
from .partial import Partial, try_hold
from .registry import Endpoint, Session
from .spans import Spans


class NoSource(NotFound):
    """Nobody noted where the blob came from."""

    code = "no_source"


def repair(store: Store, digest: str, on_progress: Progress) -> None:
    """The blob is sound when this returns. Raises NoSource, and what `download` raises.

    Killed at any moment it goes on where it was when it is called again.
    """
    layout = store.layout
    origin = read_origin(layout, digest)
    if origin is None:
        raise NoSource(f"nobody noted where blob {digest} came from; pull or build its model again")
    with hold(layout, [digest]), _wanted(digest, origin) as (wanted, policy):
        _take_out(layout, digest, origin)
        download(layout, wanted, policy, on_progress)
        end_claims(layout, [digest])  # its models have named it long ago


@contextmanager
def _wanted(digest: str, origin: Origin) -> Iterator[tuple[Wanted, Policy]]:
    """What to fetch, and where it may come from."""
    source, size_bytes = origin.source, origin.size_bytes
    if "registry" in source:
        with _session(source) as session:
            label = f"{source['repository']}@{digest}"
            wanted = Wanted(label, digest, size_bytes, lambda: session.locate(digest), source)
            yield wanted, session.endpoint.policy
        return
    from .hub import list_repo  # noqa: PLC0415  huggingface_hub is heavy

    listing, path = list_repo(source["repo"], source["commit"], source["hub"]), source["path"]
    label = f"{source['repo']}/{path}"
    yield (
        Wanted(label, digest, size_bytes, lambda: listing.locate(path), source),
        listing.policy(),
    )


def _session(source: Mapping[str, str]) -> Session:
    auth_file = Path(source["auth_file"]) if source["auth_file"] else None
    endpoint = Endpoint(source["registry"], source["trusted"] == "yes", auth_file)
    return Session(endpoint, source["repository"], "pull")


def _take_out(layout: Layout, digest: str, origin: Origin) -> None:
    """Turns the bad blob into an unfinished download of itself."""
    path = layout.blob(digest)
    with try_hold(layout, digest, origin.size_bytes) as partial:
        if partial is not None and path.is_file() and not partial.noted.have.total:
            _seed(partial, path, origin)
    with publishing(layout), naming(layout), suppress(FileNotFoundError):
        path.unlink()
        layout.watch(digest).unlink(missing_ok=True)
        sync_directory(layout.blobs)


def _seed(partial: Partial, path: os.PathLike[str], origin: Origin) -> None:
    partial.reserve()
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:  # it can't even be opened: everything is fetched
        return
    try:
        copied = _copy(partial, fd, origin.size_bytes)
    finally:
        os.close(fd)
    partial.sync()
    for length, text in sorted(origin.beginnings.items()):
        partial.note_beginning(length, text)
    partial.note_synced(Spans([(0, copied)]))


def _copy(partial: Partial, fd: int, size_bytes: int) -> int:
    """How many bytes could be read; a bad disk may end that early."""
    if os.fstat(fd).st_size == size_bytes and clone(partial.data_fd, fd):
        return size_bytes
    at = 0
    try:
        for data in chunks(fd):
            at += _put(partial, data[: size_bytes - at], at)
    except OSError:  # EIO: what follows is fetched
        return at
    return at


def _put(partial: Partial, data: bytes, at: int) -> int:
    try:
        return os.pwrite(partial.data_fd, data, at)
    except OSError as error:
        raise disk_error(error, "copying a damaged blob") from error
