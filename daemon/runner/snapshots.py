"""KV snapshots: what a model had evaluated when it was unloaded, for when it comes back.

    <model>-<conditions>-<tokens>.kv =  magic, digest of what follows, head (length first), state

A snapshot counts only under the conditions in which it was made: the same weights, adapters,
context parameters and version of llama.cpp. Its file is written under another name and renamed;
nothing is synced, since a damaged one is told by its digest, dropped, and not missed. Files that
were not used for longest make room for new ones.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from qm.modelfiles.binding import binding_version
from qm.store.conversations import snapshot_prefix

from .prefix import common_prefix, reusable_prefix
from .wire import Load

LEAST_TOKENS: Final = 64  # fewer are evaluated sooner than written and read
_MAGIC: Final = b"qm-kv-3\n"
_DIGEST_BYTES: Final = 32
_LENGTH: Final = struct.Struct("<I")
_MAX_HEAD_BYTES: Final = 64 << 20
_NAME_PART: Final = 16
_OLD_S: Final = 3600.0
AHEAD_BYTES: Final = 128 << 20  # of larger ones the reading would be in the way of the weights'


class _Head(msgspec.Struct, frozen=True):
    """What a snapshot is of."""

    conditions: str
    tokens: bytes  # int64, in the machine's order: the state is the machine's too


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One file, and the tokens whose state it has."""

    path: Path
    tokens: list[int]
    used_ns: int = 0  # when, before this process
    n_bytes: int = 0


@dataclass(slots=True)
class _Ahead:
    """A snapshot that is read before anybody asks for it; `state` is known when `thread` ends."""

    snapshot: Snapshot
    state: memoryview | None = None
    thread: threading.Thread = field(default_factory=threading.Thread)


class Snapshots:
    """The snapshots of one model under one set of conditions, at most `budget_bytes` in all."""

    def __init__(self, directory: Path, load: Load, version: str) -> None:
        self._directory = directory
        self._conditions = conditions(load, version)
        self._prefix = f"{snapshot_prefix(load.model_digest)}{self._conditions[:_NAME_PART]}-"
        self._budget_bytes = load.kv_budget_bytes
        self._ahead: _Ahead | None = None
        self._known = [
            snapshot
            for path in sorted(directory.glob(f"{self._prefix}*.kv"))
            if (snapshot := self._peek(path)) is not None
        ]

    def best(
        self, prompt: list[int], more_than: int, floor: Callable[[int], int] = lambda _: 0
    ) -> Snapshot | None:
        """The one with the longest beginning of `prompt`, if that is worth reading.

        `floor` tells how much of so many tokens must be of use.
        """
        rated = [(reusable_prefix(one.tokens, prompt), one) for one in self._known]
        rated = [pair for pair in rated if pair[0] >= floor(len(pair[1].tokens))]
        length, found = max(rated, key=lambda one: one[0], default=(0, None))
        return found if length >= more_than + LEAST_TOKENS else None

    def read(self, snapshot: Snapshot) -> memoryview | None:
        """Its state; None, and the file is gone, when it is not what it should be.

        Takes long for long conversations; may be called from another thread.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead.snapshot is not snapshot:
            return self._read(snapshot)
        ahead.thread.join()
        return ahead.state

    def read_ahead(self) -> None:
        """Begins to read the one that was used last: most likely it is asked for first."""
        newest = max(self._known, key=lambda one: one.used_ns, default=None)
        if newest is None or newest.n_bytes > AHEAD_BYTES:
            return
        ahead = self._ahead = _Ahead(newest)

        def work() -> None:
            ahead.state = self._read(newest)

        ahead.thread = threading.Thread(target=work, name="read ahead", daemon=True)
        ahead.thread.start()

    def _read(self, snapshot: Snapshot) -> memoryview | None:
        try:
            data = _content(snapshot.path)
        except OSError:
            self._forget(snapshot)
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        body = memoryview(data)[start:]
        if data[:start] != _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest():
            self.drop(snapshot)
            return None
        (length,) = _LENGTH.unpack_from(body)
        return body[_LENGTH.size + length :]

    def drop(self, snapshot: Snapshot) -> None:
        """Removes one that is of no use."""
        self._forget(snapshot)
        snapshot.path.unlink(missing_ok=True)

    def save(self, tokens: list[int], state: bytes | bytearray) -> None:
        """Keeps `state`; those that it continues are replaced. Raises OSError."""
        for known in list(self._known):
            if common_prefix(known.tokens, tokens) == len(known.tokens):
                self.drop(known)
        packed = array("q", tokens).tobytes()
        head = msgspec.msgpack.encode(_Head(self._conditions, packed))
        body = _LENGTH.pack(len(head)) + head + state
        digest = hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()
        if len(body) > self._budget_bytes:
            return
        self._make_room(len(body))
        path = self._directory / f"{self._prefix}{hashlib.sha256(packed).hexdigest()[:16]}.kv"
        temporary = path.with_suffix(f".tmp{os.getpid()}")
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.writelines((_MAGIC, digest, body))
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._known.append(Snapshot(path, tokens))

    def has(self, tokens: list[int]) -> bool:
        """Whether one has all of `tokens`."""
        return any(common_prefix(known.tokens, tokens) == len(tokens) for known in self._known)

    def _forget(self, snapshot: Snapshot) -> None:
        self._known = [known for known in self._known if known is not snapshot]

    def _make_room(self, size_bytes: int) -> None:
        """Removes what was not used for longest, of all models, until `size_bytes` more fit."""
        files: list[tuple[float, int, Path]] = []
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # another runner makes room too
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        room = self._budget_bytes - sum(size for _, size, _ in files)
        for used_s, size, path in sorted(files):
            abandoned = path.suffix != ".kv" and used_s < time.time() - _OLD_S
            if room < size_bytes or abandoned:
                path.unlink(missing_ok=True)
                room += size

    def _peek(self, path: Path) -> Snapshot | None:
        """What `path` is a snapshot of; None, and it is gone, when that can't be told."""
        try:
            with path.open("rb") as file:
                magic = file.read(len(_MAGIC))
                file.seek(_DIGEST_BYTES, os.SEEK_CUR)
                (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
                head = msgspec.msgpack.decode(file.read(min(length, _MAX_HEAD_BYTES)), type=_Head)
                facts = os.fstat(file.fileno())
            tokens = array("q", head.tokens).tolist()
        except (OSError, struct.error, msgspec.DecodeError, ValueError):
            magic, head, tokens = b"", _Head("", b""), []
        if magic != _MAGIC or head.conditions != self._conditions or not tokens:
            path.unlink(missing_ok=True)
            return None
        return Snapshot(path, tokens, facts.st_mtime_ns, facts.st_size)


def opened(load: Load) -> Snapshots | None:
    """Where a model's conversations outlive its process; nowhere for those that only embed."""
    if load.kv_directory is None or not load.kv_budget_bytes or load.embedding:
        return None
    return Snapshots(Path(load.kv_directory), load, binding_version())


def _content(path: Path) -> bytearray:
    """What is in the file, which counts as used from now on."""
    with path.open("rb") as file:
        data = bytearray(os.fstat(file.fileno()).st_size)
        del data[file.readinto(data) :]
    os.utime(path)
    return data


def conditions(load: Load, version: str) -> str:
    """A digest of all that a state depends on besides its tokens."""
    placement = load.placement
    facts: Sequence[object] = (
        version,
        load.model_digest,
        load.adapters,
        load.projector,
        placement.n_ctx,
        placement.kv_type,
        placement.flash_attention,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
