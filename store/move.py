"""Moving a store to another directory, under whoever uses it, in steps that may be cut short.

    begin    the target is marked as unfinished
    bring    blobs and the rest come over, by link where that can be, else copied and read back
    switch   alone with the store: what changed meanwhile comes over, then the home's pointer is
             replaced: before that the old place is the store, after it the new one is
    clean    what is left at the old place goes, then the mark

Killed anywhere: before the switch the next move goes on, after it the next start cleans up.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .durable import sync_directory
from .errors import Conflict, InvalidRequest
from .layout import Layout
from .location import (
    INCOMING,
    POINTER,
    Incoming,
    find_root,
    is_committed,
    put_file,
    read_incoming,
    read_pointer,
    temporary_of,
    write_incoming,
    write_pointer,
)
from .locks import collecting, try_lock
from .transplant import Transplant

Progress = Callable[[int, int], None]

UNFINISHED = "moving-to"  # in the home: where a move that did not get through was going
_MAY_BE_THERE = frozenset({"lost+found", "daemon.lock", POINTER, INCOMING, f"{INCOMING}.new"})
_FILES = ("alternates", "lock", "names.lock")


class InvalidTarget(InvalidRequest):
    """A store can't be moved there; says why."""

    code = "invalid_target"


class StoreInUse(Conflict):
    """Something is being written to the store right now."""

    code = "store_in_use"


@dataclass(frozen=True, slots=True)
class Move:
    """A move of the store of `home`. Both layouts are its own: they stay where they are."""

    home: Path
    source: Layout
    target: Layout

    @property
    def incoming(self) -> Incoming:
        return Incoming(self.home, self.source.root)


def begin(home: Path, target: Path) -> Move:
    """Marks `target` and makes its directories. Raises InvalidTarget, StoreFull, StoreFailed."""
    finish(home)
    move = Move(home, Layout(find_root(home)), Layout(target))
    _refuse_nested(move)
    _drop_other(move)
    _prepare(move)
    return move


def bring(move: Move, on_progress: Progress | None = None) -> None:
    """Everything that is at the source is at the target too, durably; safe beside its users."""
    _transplant(move, on_progress).everything()


def switch(move: Move, layout: Layout) -> None:
    """`layout` and all later starts use the target. Raises StoreInUse; then try again.

    Call it when no job runs: what other processes do at the source afterwards is lost.
    """
    with collecting(layout):
        _refuse_busy(move.source)
        _transplant(move, None).everything(exactly=True)
        write_pointer(move.home, move.target.root)
        layout.root = move.target.root


def clean(move: Move) -> None:
    """Removes what the source still has, once the switch has happened."""
    if not is_committed(move.target.root, move.incoming):
        return
    source, target = move.source, move.target
    if source.root.is_dir():
        _transplant(move, None).conversations()  # of models that were unloaded meanwhile
        for directory in source.directories():
            shutil.rmtree(directory, ignore_errors=True)
        for name in _FILES:
            (source.root / name).unlink(missing_ok=True)
        if source.root != move.home:
            write_pointer(source.root, target.root)
    for path in (move.home / UNFINISHED, move.home / POINTER, target.root / INCOMING):
        temporary_of(path).unlink(missing_ok=True)
    (move.home / UNFINISHED).unlink(missing_ok=True)
    (target.root / INCOMING).unlink(missing_ok=True)
    sync_directory(target.root)


def finish(home: Path) -> None:
    """At a start: cleans up after a move that was cut short behind its switch."""
    root = find_root(home)
    incoming = read_incoming(root)
    if incoming is not None:
        clean(Move(incoming.home, Layout(incoming.source), Layout(root)))


def unfinished(home: Path) -> Path | None:
    """Where a move was going that did not get through."""
    try:
        return Path(os.fsdecode((home / UNFINISHED).read_bytes()))
    except FileNotFoundError:
        return None


def _transplant(move: Move, on_progress: Progress | None) -> Transplant:
    return Transplant(move.source, move.target, on_progress)


def _refuse_nested(move: Move) -> None:
    source, target = move.source.root.resolve(), move.target.root.resolve()
    if source == target:
        raise InvalidTarget(f"the store is at {target} already")
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise InvalidTarget(f"{target} and the store {source} must not contain each other")


def _prepare(move: Move) -> None:
    root = move.target.root
    _refuse_foreign(move)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        put_file(move.home / UNFINISHED, os.fsencode(root))
        write_incoming(root, move.incoming)
        if root != move.home:
            (root / POINTER).unlink(missing_ok=True)  # of a store that was here once
        move.target.create()
        sync_directory(root.parent)
    except OSError as error:
        raise InvalidTarget(f"can't move the store to {root}: {error.strerror}") from error


def _refuse_foreign(move: Move) -> None:
    """Nothing of anybody else may be in the target."""
    root = move.target.root
    if not root.exists():
        return
    if not root.is_dir():
        raise InvalidTarget(f"{root} is no directory")
    incoming = read_incoming(root)
    if incoming is not None:
        if incoming.home != move.home:
            raise InvalidTarget(f"the store of {incoming.home} is being moved to {root}")
        return
    was_here = root == move.home or read_pointer(root) is not None
    foreign = {entry.name for entry in root.iterdir()} - _MAY_BE_THERE
    if was_here:
        foreign = {path.name for path in move.target.directories() if _has_entries(path)}
    if foreign:
        raise InvalidTarget(f"{root} is not empty (it has {min(foreign)}); choose a new directory")


def _drop_other(move: Move) -> None:
    """What an earlier move brought elsewhere is of no use any more."""
    other = unfinished(move.home)
    if other is None or other == move.target.root:
        return
    incoming = read_incoming(other)
    ours = incoming is not None and incoming.home == move.home
    if incoming is not None and ours and not is_committed(other, incoming):
        drop(Layout(other))


def drop(target: Layout) -> None:
    """Removes what an unfinished move brought; the mark last."""
    for directory in target.directories():
        shutil.rmtree(directory, ignore_errors=True)
    for name in (*_FILES, INCOMING):
        (target.root / name).unlink(missing_ok=True)


def _has_entries(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _refuse_busy(layout: Layout) -> None:
    for path in _unfinished_writes(layout):
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if not try_lock(fd):
                    raise StoreInUse("a file is just being uploaded or downloaded; try again later")
            finally:
                os.close(fd)


def _unfinished_writes(layout: Layout) -> Iterator[Path]:
    for path in layout.partial.iterdir():
        if path.name.startswith(("write-", "pull-")):
            yield path
