"""Watching adopted files: they share bytes with a file that its owner may still change."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from .durable import replace_file
from .errors import Conflict, QmError
from .layout import Layout


class BlobChanged(Conflict):
    """An adopted file is not what it was when it was hashed."""

    code = "blob_changed"


class WatchUnreadable(QmError):
    """A watch record that is no longer readable, so nobody can vouch for the file."""

    code = "watch_unreadable"


@dataclass(frozen=True, slots=True)
class Watch:
    """What an adopted file looked like when its digest was computed."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    source: str

    @classmethod
    def of(cls, status: os.stat_result, source: str) -> Watch:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, source)

    def is_about(self, status: os.stat_result) -> bool:
        """False for a record left by an adoption that lost a race: its file is another one."""
        return (self.device, self.inode) == (status.st_dev, status.st_ino)

    def difference(self, status: os.stat_result) -> str | None:
        """What changed, in words; None if nothing did."""
        if status.st_size != self.size_bytes:
            return f"its size went from {self.size_bytes} to {status.st_size} bytes"
        if status.st_mtime_ns != self.mtime_ns:
            return "it was written to"
        return None


def write_watch(layout: Layout, digest: str, watch: Watch) -> None:
    data = json.dumps(asdict(watch)).encode()
    replace_file(layout.watch(digest), data, temporary_in=layout.partial)


def read_watch(layout: Layout, digest: str) -> Watch | None:
    """The record for `digest`, None when the blob was not adopted."""
    path = layout.watch(digest)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Watch(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise WatchUnreadable(f"the record of an adopted file is unreadable: {path}") from error


def check_unchanged(
    layout: Layout, digest: str, status: os.stat_result, *, in_place: bool = False
) -> None:
    """Raises BlobChanged when the blob shares an adopted file that changed.

    A file that is used in place (`in_place`) must be the very one that was hashed.
    """
    watch = read_watch(layout, digest)
    if watch is not None and watch.is_about(status):
        difference = watch.difference(status)
    else:
        difference = "another file is in its place" if in_place else None
    if difference is not None:
        source = watch.source if watch is not None else "of a user"
        raise BlobChanged(
            f"blob {digest} shares the file {source}, and {difference}; "
            "import it again, or remove the model and create it again"
        )
