"""Models go to an OCI registry: each blob in chunks, resumable, the manifest last."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urljoin

from ..durable import replace_file
from ..errors import InvalidRequest, QmError
from ..image import MANIFEST_TYPE, Descriptor
from ..leases import hold
from ..locks import publishing
from ..name import Name
from ..store import Store
from .addresses import Origin
from .connection import Answer
from .registry import Endpoint, RegistryRefused, RegistryUnreachable, Session
from .retry import TRANSIENT, backoff_s

Progress: TypeAlias = Callable[[dict[str, object]], None]

CHUNK_BYTES = 16 << 20
PATIENCE = 6  # failures in a row, without a byte between them
_SHOWN_DIGITS = 12
_PASSING = TRANSIENT | {416}  # 416: the registry has another offset than we thought
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


class ForeignUpload(InvalidRequest):
    """A registry wants a blob to be sent to another host; it is not."""

    code = "foreign_upload"


def push_image(
    store: Store, endpoint: Endpoint, name: Name, target: Name, on_progress: Progress
) -> None:
    """Sends the model `name` to the registry as `target`. Only blobs of its manifest go out, and
    only while their bytes are what their digests say.

    Raises ModelNotFound, BlobMissing, BlobCorrupt, BlobChanged, LoginNeeded, RegistryRefused,
    RegistryUnreachable.
    """
    on_progress({"status": "retrieving manifest"})
    stored = store.manifests.read(name)
    with (
        hold(store.layout, stored.manifest.blobs()),
        Session.about(endpoint, target, "pull,push") as session,
    ):
        for descriptor in stored.manifest.descriptors():
            _Push(store, session, descriptor, on_progress).run()
        on_progress({"status": "pushing manifest"})
        data = store.manifests.data(stored.name)
        kind = json.loads(data).get("mediaType", MANIFEST_TYPE)
        url = session.url(f"manifests/{target.tag}")
        answer = session.ask("PUT", url, {"Content-Type": kind}, data)
        if answer.status not in (200, 201, 202):
            raise session.refused(answer, f"the manifest of {target}")


@dataclass(slots=True)
class _Push:
    """One blob on its way."""

    store: Store
    session: Session
    descriptor: Descriptor
    on_progress: Progress
    failures: int = 0

    def run(self) -> None:
        digest = self.descriptor.digest
        self._tell(0)
        answer = self.session.ask("HEAD", self.session.url(f"blobs/{digest}"))
        if answer.status == 200:
            self._tell(self.descriptor.size_bytes)
            return
        self.store.blobs.verify(digest)
        with self._opened() as fd:
            while not self._tried(fd):
                time.sleep(backoff_s(self.failures, random.random()))  # noqa: S311  spreads load
        self._note.unlink(missing_ok=True)
        self._tell(self.descriptor.size_bytes)

    def _tried(self, fd: int) -> bool:
        """Whether it arrived; False if another try may help. Raises what nothing helps against."""
        try:
            location, offset = self._resumed() or self._started()
            self._send(fd, location, offset)
        except (RegistryUnreachable, RegistryRefused) as error:
            self.session.drop()
            self.failures += 1
            if not self._may_pass(error):
                raise
            return False
        return True

    def _may_pass(self, error: RegistryUnreachable | RegistryRefused) -> bool:
        """Whether another try makes sense."""
        if isinstance(error, RegistryRefused) and error.told not in _PASSING:
            self._note.unlink(missing_ok=True)
            return False
        return self.failures < PATIENCE

    def _send(self, fd: int, location: str, offset: int) -> None:
        size_bytes = self.descriptor.size_bytes
        while offset < size_bytes:
            data = os.pread(fd, min(CHUNK_BYTES, size_bytes - offset), offset)
            if not data:
                raise RegistryRefused(f"blob {self.descriptor.digest} became shorter", 0)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{offset}-{offset + len(data) - 1}",
            }
            answer = self.session.ask("PATCH", location, headers, data)
            location = self._accepted(answer, (202, 204))
            offset += len(data)
            self.failures = 0
            self._remember(location)
            self._tell(offset)
        sign = "&" if "?" in location else "?"
        answer = self.session.ask("PUT", f"{location}{sign}digest={self.descriptor.digest}")
        self._accepted(answer, (201, 204))

    def _started(self) -> tuple[str, int]:
        """A new upload."""
        answer = self.session.ask("POST", self.session.url("blobs/uploads/"))
        location = self._accepted(answer, (202,))
        self._remember(location)
        return location, 0

    def _resumed(self) -> tuple[str, int] | None:
        """The upload that was under way, and how much of it the registry has."""
        try:
            location = self._note.read_text("utf-8")
        except FileNotFoundError:
            return None
        answer = self.session.ask("GET", self._checked(location))
        match = _RANGE.fullmatch(answer.headers.get("range", ""))
        if answer.status not in (202, 204):
            self._note.unlink(missing_ok=True)
            return None
        arrived = int(match[1]) + 1 if match and match[1] != "0" else 0
        location = urljoin(location, answer.headers.get("location", location))
        return self._checked(location), min(arrived, self.descriptor.size_bytes)

    def _accepted(self, answer: Answer, statuses: tuple[int, ...]) -> str:
        """Where to go on. Raises RegistryRefused."""
        if answer.status not in statuses:
            raise self._as_refused(answer)
        location = answer.headers.get("location", "")
        return self._checked(urljoin(self.session.endpoint.url, location))

    def _as_refused(self, answer: Answer) -> QmError:
        return self.session.refused(answer, f"blob {self.descriptor.digest}")

    def _checked(self, location: str) -> str:
        if Origin.of(location) != self.session.endpoint.origin:
            raise ForeignUpload(f"the registry wants the upload at {location[:200]!r}")
        return location

    @property
    def _note(self) -> Path:
        """Where the location of an unfinished upload is kept."""
        what = f"{self.session.url('')} {self.descriptor.digest}"
        name = hashlib.sha256(what.encode()).hexdigest()
        return self.store.layout.partial / f"push-{name[:32]}"

    def _remember(self, location: str) -> None:
        layout = self.store.layout
        with publishing(layout):
            replace_file(self._note, location.encode(), temporary_in=layout.partial)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        fd = os.open(self.store.blobs.path(self.descriptor.digest), os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)

    def _tell(self, completed: int) -> None:
        digest = self.descriptor.digest
        self.on_progress(
            {
                "status": f"pushing {digest.removeprefix('sha256:')[:_SHOWN_DIGITS]}",
                "digest": digest,
                "total": self.descriptor.size_bytes,
                "completed": completed,
            }
        )
