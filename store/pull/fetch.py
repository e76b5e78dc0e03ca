"""Files of a hub repository as blobs of the store, each fetched once, none left unguarded.

For builds too: `RepoFetch(store, lease, list_repo(repo, revision), on_progress).fetch(files)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from ..hashing import git_oid
from ..leases import Lease
from ..store import Store, put_leased
from .cache import from_cache, small_from_cache
from .choose import RepoFile
from .connection import BROKEN, Connection, Located
from .download import Limits, Wanted, WrongDigest, download
from .fetching import DownloadFailed
from .hub import Listing
from .streaming import Stream
from .xet import Xet

Progress: TypeAlias = Callable[[dict[str, object]], None]
"""Called with what `/api/pull` streams: status, digest, total, completed."""

MAX_SMALL_BYTES = 64 << 20  # the hub keeps nothing larger outside of its large file storage
_SHOWN_DIGITS = 12
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file of a repository, here. `new` tells whether this call brought it."""

    path: Path
    digest: str
    size_bytes: int
    new: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file stands among all that are fetched."""

    before_bytes: int
    all_bytes: int

    def told(self, on_progress: Progress) -> Progress:
        """Says with each step how far everything is."""

        def tell(step: dict[str, object]) -> None:
            completed = step.get("completed")
            here = completed if isinstance(completed, int) else 0
            everything = {"all_completed": self.before_bytes + here, "all_total": self.all_bytes}
            on_progress(step | everything)

        return tell


@dataclass(frozen=True, slots=True)
class RepoFetch:
    """Fetches files of one repository at one commit; `lease` keeps them until it is dropped."""

    store: Store
    lease: Lease
    listing: Listing
    on_progress: Progress
    limits: Limits = field(default_factory=Limits)
    xet: Xet = field(default_factory=Xet)

    def fetch(self, files: Iterable[RepoFile]) -> dict[str, Fetched]:
        """Every file, by its path in the repository."""
        wanted = list(files)
        all_bytes, before_bytes, fetched = sum(file.size_bytes for file in wanted), 0, {}
        for file in wanted:
            place = _Place(before_bytes, all_bytes)
            fetched[file.path] = replace(self, on_progress=place.told(self.on_progress))._one(file)
            before_bytes += file.size_bytes
        return fetched

    def _one(self, file: RepoFile) -> Fetched:
        if file.digest is None or not file.size_bytes:
            return self._small(file)
        self.lease.add(file.digest)
        new = not self.store.blobs.has(file.digest)
        if new and not from_cache(self.store, self.listing.repo, file.digest, file.size_bytes):
            self._transfer(file, file.digest)
        self._tell(file, file.size_bytes)
        return Fetched(self.store.blobs.path(file.digest), file.digest, file.size_bytes, new)

    def _small(self, file: RepoFile) -> Fetched:
        data = small_from_cache(self.listing.repo, file)
        if data is None:
            data = fetch_small(self.listing, file, self.limits)
        digest, new = put_leased(self.store, self.lease, data)
        return Fetched(self.store.blobs.path(digest), digest, len(data), new)

    def _transfer(self, file: RepoFile, digest: str) -> None:
        wanted = Wanted(
            f"{self.listing.repo}/{file.path}",
            digest,
            file.size_bytes,
            lambda: self.listing.locate(file.path),
            {
                "hub": self.listing.endpoint,
                "repo": self.listing.repo,
                "commit": self.listing.commit,
                "path": file.path,
            },
            self._stream(file),
        )
        download(
            self.store.layout,
            wanted,
            self.listing.policy(),
            lambda done: self._tell(file, done),
            self.limits,
        )

    def _stream(self, file: RepoFile) -> Callable[[Located], Stream | None] | None:
        """None with a limited rate: what hf_xet asks for ahead can't be held back."""
        throttle = self.limits.throttle
        if throttle is not None and throttle.bytes_per_s:
            return None
        policy = self.listing.policy()
        return lambda located: self.xet.stream(located, file.size_bytes, policy)

    def _tell(self, file: RepoFile, completed: int) -> None:
        digest = str(file.digest)
        shown = digest.removeprefix("sha256:")[:_SHOWN_DIGITS]
        self.on_progress(
            {
                "status": f"pulling {shown}",
                "digest": digest,
                "total": file.size_bytes,
                "completed": completed,
            }
        )


def fetch_small(listing: Listing, file: RepoFile, limits: Limits) -> bytes:
    """The bytes of a file that is no large one, checked by its git object id, asked for anew where
    they are wrong.

    Raises DownloadFailed, and WrongDigest when they are wrong each time.
    """
    label = f"{listing.repo}/{file.path}"
    if file.size_bytes > MAX_SMALL_BYTES:
        raise DownloadFailed(f"{label} has {file.size_bytes} bytes and no digest")
    reason: Exception = DownloadFailed(label)
    for _ in range(_TRIES):
        try:
            data = _read_small(listing, file, limits)
        except BROKEN as error:
            reason = error
            continue
        if not file.git_oid or git_oid(data) == file.git_oid:
            return data
        reason = WrongDigest(f"{label} is not what its source says; nothing was kept")
    if isinstance(reason, WrongDigest):
        raise reason
    raise DownloadFailed(f"downloading {label} failed: {reason}; pull again to go on")


def _read_small(listing: Listing, file: RepoFile, limits: Limits) -> bytes:
    """Raises BROKEN."""
    with Connection(listing.policy(), stall_s=limits.stall_s) as connection:
        answer = connection.get(listing.locate(file.path), {})
        if answer.status != 200:
            raise OSError(f"the server answered {answer.status}")
        buffer = memoryview(bytearray(file.size_bytes + 1))
        filled = 0
        while filled < len(buffer) and (n_bytes := answer.readinto(buffer[filled:])):
            filled += n_bytes
    if filled != file.size_bytes:
        raise OSError(f"{filled} bytes came, {file.size_bytes} were announced")
    return bytes(buffer[:filled])
