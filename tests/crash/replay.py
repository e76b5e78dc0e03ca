"""Plays the calls of a trace into a model of the disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.disk import Disk, Entries, Inode
from tests.crash.strace import Argument, Call, Descriptor


class NotModelled(Exception):
    """A call changes files in a way that the model does not know."""


@dataclass(slots=True)
class _Open:
    """A file that somebody writes; one writer at a time, as the store's locks have it."""

    inode: Inode
    at: int | None  # None: always at the end


@dataclass(slots=True)
class Replay:
    """Told each call when it begins and when it has ended, it changes the `disk` alike.

    What a sync writes is what was there when it began. `ignoring` says which syncs do nothing.
    """

    disk: Disk
    ignoring: Callable[[Path], bool] = lambda _path: False
    _open: dict[Path, _Open] = field(default_factory=dict)
    _gone: dict[Path, _Open] = field(default_factory=dict)
    _syncing: dict[int, bytes | Entries] = field(default_factory=dict)

    def play(self, call: Call) -> None:
        name = call.name.removesuffix("64").removesuffix("2")
        if call.result is None:
            if name in ("fsync", "fdatasync"):
                self._begin_sync(call)
            return
        play = _PLAYS.get(name)
        if play is None:
            raise NotModelled(call.name)
        play(self, call)

    def _opened(self, call: Call) -> None:
        if call.opened is None or call.opened.gone:
            return
        path, flags = call.opened.path, str(call.arguments[2])
        if self._is_directory(path) or not {"O_WRONLY", "O_RDWR"} & set(flags.split("|")):
            return
        inode = self.disk.file(path)
        if "O_TRUNC" in flags:
            inode.truncate(0)
        self._open[path] = _Open(inode, None if "O_APPEND" in flags else 0)

    def _sought(self, call: Call) -> None:
        file = self._file(call.arguments[0])
        if file.at is not None:
            file.at = call.result

    def _wrote(self, call: Call) -> None:
        """One text or several, as `writev` has them."""
        file = self._file(call.arguments[0])
        data = b"".join(each for each in call.arguments if isinstance(each, bytes))
        assert call.result is not None
        file.inode.write(data[: call.result], len(file.inode.data) if file.at is None else file.at)
        if file.at is not None:
            file.at += call.result

    def _wrote_at(self, call: Call) -> None:
        file, data = self._file(call.arguments[0]), call.arguments[1]
        assert isinstance(data, bytes)
        file.inode.write(data[: call.result], int(str(call.arguments[3])))

    def _truncated(self, call: Call) -> None:
        self._file(call.arguments[0]).inode.truncate(int(str(call.arguments[1])))

    def _allocated(self, call: Call) -> None:
        offset, length = (int(str(each)) for each in call.arguments[2:4])
        if call.arguments[1] != "0":
            raise NotModelled(f"fallocate {call.arguments[1]!r}")
        self._file(call.arguments[0]).inode.extend(offset + length)

    def _begin_sync(self, call: Call) -> None:
        path = _path_of(call.arguments[0])
        self._syncing[call.pid] = (
            self.disk.entries(path)
            if self._is_directory(path)
            else bytes(self._file(call.arguments[0]).inode.data)
        )

    def _synced(self, call: Call) -> None:
        path, had = _path_of(call.arguments[0]), self._syncing.pop(call.pid)
        if self.ignoring(path):
            return
        if isinstance(had, bytes):
            self.disk.sync_file(self._file(call.arguments[0]).inode, had)
        else:
            self.disk.sync_directory(path, had)

    def _linked(self, call: Call) -> None:
        source, target = _paths(call)
        self.disk.link(source, target)

    def _symlinked(self, call: Call) -> None:
        self.disk.symlink(_paths(call)[-1])

    def _renamed(self, call: Call) -> None:
        source, target = _paths(call)
        self.disk.rename(source, target)
        if source in self._open:
            self._open[target] = self._open.pop(source)

    def _removed(self, call: Call) -> None:
        (path,) = _paths(call)
        self.disk.remove(path)
        if path in self._open:
            self._gone[path] = self._open.pop(path)

    def _made(self, call: Call) -> None:
        self.disk.make_directory(_paths(call)[0])

    def _is_directory(self, path: Path) -> bool:
        inode = self.disk.visible.get(path)
        return path == self.disk.root or (inode is not None and not inode.is_file)

    def _file(self, argument: Argument) -> _Open:
        assert isinstance(argument, Descriptor)
        known = (self._gone if argument.gone else self._open).get(argument.path)
        if known is None:
            known = _Open(Inode() if argument.gone else self.disk.file(argument.path), 0)
        return known


def _path_of(argument: Argument) -> Path:
    assert isinstance(argument, Descriptor)
    return argument.path


def _paths(call: Call) -> list[Path]:
    """The paths that a call names, each relative to the directory before it, if any is."""
    found, base = [], Path("relative to nothing")
    for argument in call.arguments:
        if isinstance(argument, Descriptor):
            base = argument.path
        elif isinstance(argument, bytes):
            found.append(base / argument.decode())
    if not all(path.is_absolute() for path in found):
        raise NotModelled(f"{call.name} of {found}")
    return found


_PLAYS: dict[str, Callable[[Replay, Call], None]] = {
    "openat": Replay._opened,
    "lseek": Replay._sought,
    "write": Replay._wrote,
    "writev": Replay._wrote,
    "pwrite": Replay._wrote_at,
    "ftruncate": Replay._truncated,
    "fallocate": Replay._allocated,
    "fsync": Replay._synced,
    "fdatasync": Replay._synced,
    "link": Replay._linked,
    "linkat": Replay._linked,
    "symlink": Replay._symlinked,
    "symlinkat": Replay._symlinked,
    "rename": Replay._renamed,
    "renameat": Replay._renamed,
    "unlink": Replay._removed,
    "unlinkat": Replay._removed,
    "rmdir": Replay._removed,
    "mkdir": Replay._made,
    "mkdirat": Replay._made,
}
