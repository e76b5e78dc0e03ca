"""`download`: one blob of known digest and size, from wherever its bytes can be had by ranges.

    take the partial file → reserve → fetch, write, note, hash, sync (threads) → check → publish

The bytes come over a few connections; the digest is computed while they arrive; what was noted
survives a kill. Of several processes that want the same blob one transfers it, the others watch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import TypeAlias

from ..blobs import Blobs
from ..errors import QmError
from ..layout import Layout
from ..publish import publish
from .addresses import Policy
from .connection import Connection, Located
from .fetching import Fetcher
from .front import Front
from .mending import Mending
from .origin import Origin, write_origin
from .partial import Partial, noted_bytes, try_hold
from .spans import Spans
from .streaming import Stream, Streaming
from .throttle import Throttle
from .work import FIRST_CONNECTIONS, PATIENCE, SEGMENT_BYTES, Tuner, Work

Progress: TypeAlias = Callable[[int], None]
"""Called with the bytes that are here."""

_log = logging.getLogger(__name__)
_TICK_S = 0.1
_WATCH_S = 0.2
SYNC_BYTES = 32 << 20
_JOIN_LIMIT_S = 10.0


class WrongDigest(QmError):
    """The source's bytes are not what it announced, twice; nothing was kept."""

    status = 502
    code = "wrong_digest"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob to fetch. `locate` says where it is; it is asked again when a link has expired."""

    label: str
    digest: str
    size_bytes: int
    locate: Callable[[], Located]
    source: Mapping[str, str] = field(default_factory=dict)  # for repairs, see repair.py
    stream: Callable[[Located], Stream | None] | None = None  # a faster way to all of it, if any


@dataclass(frozen=True, slots=True)
class Limits:
    """How a transfer behaves; the defaults suit a home and a data centre."""

    connections: int = 8
    stall_s: float = 30.0
    patience: int = PATIENCE
    throttle: Throttle | None = None


def download(
    layout: Layout,
    wanted: Wanted,
    policy: Policy,
    on_progress: Progress,
    limits: Limits | None = None,
) -> None:
    """Returns when the blob is published. Hold a lease on its digest.

    Raises DownloadFailed (the partial file is kept), WrongDigest, StoreFull, StoreFailed,
    ForbiddenAddress, and what `wanted.locate` raises.
    """
    blobs = Blobs(layout)
    while not blobs.has(wanted.digest):
        with try_hold(layout, wanted.digest, wanted.size_bytes) as partial:
            if partial is not None:
                if not blobs.has(wanted.digest):
                    _Transfer(layout, wanted, policy, limits or Limits(), partial).run(on_progress)
                partial.remove()
                break
        on_progress(noted_bytes(layout, wanted.digest, wanted.size_bytes))
        time.sleep(_WATCH_S)
    on_progress(wanted.size_bytes)


class _Transfer:
    """One download under way in this process."""

    def __init__(
        self, layout: Layout, wanted: Wanted, policy: Policy, limits: Limits, partial: Partial
    ) -> None:
        self._layout = layout
        self._wanted = wanted
        self._partial = partial
        most = max(1, min(limits.connections, -(-wanted.size_bytes // SEGMENT_BYTES)))
        self._limits = limits
        self._work = Work(
            wanted.size_bytes,
            Spans(partial.noted.have),
            wanted.locate,
            lambda: partial.restart(""),
            Tuner(most, min(most, FIRST_CONNECTIONS)),
        )
        self._front = Front(self._work, partial)
        throttle = limits.throttle or Throttle(None)
        self._fetchers = [
            Fetcher(
                wanted.label,
                self._work,
                partial,
                Connection(policy, stall_s=limits.stall_s),
                throttle,
                limits.patience,
            )
            for _ in range(most)
        ]

    def run(self, on_progress: Progress) -> None:
        self._partial.reserve()
        with self._threads():
            self._stream(on_progress)
            self._await_all(on_progress)
            sound = self._front.digest == self._wanted.digest or self._mended()
        if not sound:
            self._partial.remove()
            raise WrongDigest(
                f"{self._wanted.label} is not what its source says: expected "
                f"{self._wanted.digest}, the bytes are {self._front.digest}; nothing was kept"
            )
        self._note_origin()
        publish(self._layout, self._partial.finish(), self._wanted.digest)

    def _note_origin(self) -> None:
        wanted = self._wanted
        if wanted.source:
            origin = Origin(wanted.size_bytes, wanted.source, self._front.beginnings())
            write_origin(self._layout, wanted.digest, origin)

    def _stream(self, on_progress: Progress) -> None:
        """Begins with the stream where there is one; the fetchers get what it leaves."""
        wanted = self._wanted
        if wanted.stream is None or self._partial.noted.have.total:
            return
        located = wanted.locate()
        stream = wanted.stream(located)
        if stream is not None:
            streaming = Streaming(wanted.label, stream, self._work, self._partial)
            streaming.follow(on_progress, self._limits.stall_s)
        self._work.place(located)

    def _await_all(self, on_progress: Progress) -> None:
        """Returns when every byte is here and hashed. Raises what ended the transfer."""
        work = self._work
        while self._front.digest is None and work.error is None:
            if work.located is None and not work.is_complete:
                work.relocate(0)
            with work.changed:
                work.changed.wait(_TICK_S)
                here = work.have.total
                work.tuner.tick(time.monotonic(), work.fetched_bytes)
            on_progress(here)
        if work.error is not None:
            raise work.error

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """All of them have ended, or their connections are cut, when this is left."""
        targets = [*(fetcher.run for fetcher in self._fetchers), self._front.run, self._sync]
        threads = [Thread(target=target, daemon=True) for target in targets]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._work.stop()
            for fetcher in self._fetchers:
                fetcher.connection.abort()
            for thread in threads:
                thread.join(_JOIN_LIMIT_S)

    def _sync(self) -> None:
        """Writes back what came, so that a power cut costs little and the end comes soon."""
        work, synced_bytes = self._work, 0
        try:
            while not work.is_over:
                time.sleep(_TICK_S)
                with work.changed:
                    epoch, here = work.epoch, Spans(work.have)
                if abs(here.total - synced_bytes) < SYNC_BYTES:
                    continue
                self._partial.sync()
                synced_bytes = here.total
                with work.changed:
                    if work.epoch == epoch:
                        self._partial.note_synced(here)
        except QmError as error:
            work.stop(error)

    def _mended(self) -> bool:
        """Fetches again what may be wrong, until the digest is right."""
        label, found = self._wanted.label, self._front.digest
        _log.warning("wrong_digest file=%s found=%s", label, found)
        return Mending(self._work, self._partial, self._front, self._wanted.digest).run()
