"""An unfinished download on the disk: the bytes, and a journal of which of them are there.

`partial/pull-<hex>/data` is preallocated; `partial/pull-<hex>/journal` gets one JSON line for each
piece that was written. A killed process loses what it had not noted yet; a machine that lost its
power also what was noted but not synced, which the journal tells apart by the boot.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..durable import disk_error, sync_directory, sync_file, write_all
from ..layout import Layout, parse_digest
from ..locks import publishing, try_lock
from .spans import Spans

MARGIN_BYTES = 16 << 20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BLOB_MODE = 0o444


@dataclass(slots=True)
class Noted:
    """What a journal says: bytes that are here, their source's etag, and digests of beginnings."""

    have: Spans = field(default_factory=Spans)
    etag: str = ""
    beginnings: dict[int, str] = field(default_factory=dict)


class Partial:
    """One unfinished download, held by this process alone."""

    def __init__(self, layout: Layout, path: Path, size_bytes: int) -> None:
        self.data_path = path / "data"
        self._layout = layout
        self._path = path
        self._journal_path = path / "journal"
        self._size_bytes = size_bytes
        self.data_fd = self._open(self.data_path)
        self._journal_fd = self._open(self._journal_path, os.O_APPEND)
        self.noted = self._read()

    def close(self) -> None:
        os.close(self.data_fd)
        os.close(self._journal_fd)

    def reserve(self) -> None:
        """Finds out before the first byte whether the disk has room. Raises StoreFull."""
        there = os.fstat(self.data_fd).st_blocks * 512
        missing = max(0, self._size_bytes - there)
        free = os.statvfs(self._path)
        try:
            if missing and free.f_bavail * free.f_frsize < missing + MARGIN_BYTES:
                raise OSError(28, "no space")  # as fallocate would say, without filling the disk
            if missing and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.data_fd, 0, self._size_bytes)
            os.ftruncate(self.data_fd, self._size_bytes)
        except OSError as error:
            raise disk_error(error, "reserving room for a download", missing) from error

    def write(self, data: memoryview, offset: int, label: str, missing_bytes: int) -> None:
        """Puts bytes of the download `label` in place. Raises StoreFull, StoreFailed."""
        try:
            while data:
                written = os.pwrite(self.data_fd, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise disk_error(error, f"downloading {label}", missing_bytes) from error

    def note_written(self, start: int, stop: int) -> None:
        """Remembers bytes; they are trusted after a kill, and synced ones after a power cut."""
        self._note({"have": [start, stop]})

    def note_synced(self, span: Spans) -> None:
        self._note({"synced": list(span)})

    def note_beginning(self, length: int, hexadecimal: str) -> None:
        self._note({"beginning": length, "sha256": hexadecimal})

    def restart(self, etag: str) -> None:
        """Forgets everything: the bytes are of another file, or the source can't tell."""
        os.ftruncate(self._journal_fd, 0)
        self.noted = Noted(etag=etag)
        self._begin()

    def forget(self, start: int, stop: int) -> None:
        """Takes bytes back that turned out to be wrong, and all digests behind them."""
        self.noted.have.remove(start, stop)
        self._note({"lost": [start, stop]})

    def set_etag(self, etag: str) -> None:
        self.noted.etag = etag
        self._note({"etag": etag})

    def sync(self) -> None:
        """Raises disk_error: after a failed fsync nobody knows what is on the disk."""
        try:
            os.fsync(self.data_fd)
        except OSError as error:
            self.restart("")
            raise disk_error(error, "writing a download", self._size_bytes) from error

    def finish(self) -> Path:
        """The whole file, durable and read-only, ready to be published."""
        try:
            os.fchmod(self.data_fd, _BLOB_MODE)
            sync_file(self.data_fd)
        except OSError as error:
            self.restart("")
            raise disk_error(error, "writing a download", self._size_bytes) from error
        return self.data_path

    def remove(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)

    # The journal ------------------------------------------------------------------------------

    def _open(self, path: Path, flags: int = 0) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)
        except OSError as error:
            raise disk_error(error, "starting a download", self._size_bytes) from error

    def _note(self, line: dict[str, object]) -> None:
        try:
            write_all(self._journal_fd, json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise disk_error(error, "noting what was downloaded") from error

    def _begin(self) -> None:
        self._note({"size": self._size_bytes, "boot": _boot_id(), "etag": self.noted.etag})

    def _read(self) -> Noted:
        data = os.pread(self._journal_fd, os.fstat(self._journal_fd).st_size, 0)
        noted = parse_journal(data, self._size_bytes, _boot_id())
        if noted is None:
            os.ftruncate(self._journal_fd, 0)
            self.noted = Noted()
            self._begin()
            return self.noted
        if not data.endswith(b"\n"):  # torn by a crash
            write_all(self._journal_fd, b"\n")
        return noted


def parse_journal(data: bytes, size_bytes: int, boot: str) -> Noted | None:
    """What the journal of a file of this size says; None if it is of no use."""
    lines = [line for raw in data.split(b"\n") if (line := _parse(raw)) is not None]
    if not lines or lines[0].get("size") != size_bytes:
        return None
    noted = Noted(etag=str(lines[0].get("etag", "")))
    same_boot = bool(boot) and lines[0].get("boot") == boot
    for line in lines[1:]:
        match line:
            case {"have": [int(start), int(stop)]} if same_boot:
                noted.have.add(start, min(stop, size_bytes))
            case {"synced": list(spans)}:
                for start, stop in spans:
                    noted.have.add(start, min(stop, size_bytes))
            case {"lost": [int(start), int(stop)]}:
                noted.have.remove(start, stop)
                noted.beginnings = {n: h for n, h in noted.beginnings.items() if n <= start}
            case {"beginning": int(length), "sha256": str(hexadecimal)}:
                noted.beginnings[length] = hexadecimal
            case {"etag": str(etag)}:
                noted.etag = etag
    return noted


def _parse(raw: bytes) -> dict[str, object] | None:
    with suppress(ValueError):
        line = json.loads(raw)
        if isinstance(line, dict):
            return line
    return None


def _boot_id() -> str:
    """Empty where the system does not tell: then only what was synced counts."""
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


# Holding ----------------------------------------------------------------------------------------


@contextmanager
def try_hold(layout: Layout, digest: str, size_bytes: int) -> Iterator[Partial | None]:
    """The partial download of `digest`, None while another process works on it."""
    path = partial_path(layout, digest)
    with publishing(layout):  # so that nobody removes it between its making and its lock
        fd = _locked_directory(path)
    if fd is None:
        yield None
        return
    try:
        partial = Partial(layout, path, size_bytes)
        try:
            yield partial
        finally:
            partial.close()
    finally:
        os.close(fd)


def partial_path(layout: Layout, digest: str) -> Path:
    return layout.partial / f"pull-{parse_digest(digest).removeprefix('sha256:')}"


def noted_bytes(layout: Layout, digest: str, size_bytes: int) -> int:
    """How far whoever works on it got, by its journal."""
    try:
        data = (partial_path(layout, digest) / "journal").read_bytes()
    except FileNotFoundError:
        return 0
    noted = parse_journal(data, size_bytes, _boot_id())
    return 0 if noted is None else noted.have.total


def _locked_directory(path: Path) -> int | None:
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:  # its holder has just finished
        return None
    except OSError as error:
        raise disk_error(error, "starting a download") from error
    if try_lock(fd) and _is_there(path, fd):
        sync_directory(path.parent)
        return fd
    os.close(fd)
    return None


def _is_there(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
