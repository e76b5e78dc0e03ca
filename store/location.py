"""Where a store is: what its home says once it was moved, and what an unfinished move left.

HOME/moved-to        the store's root, when that is no longer HOME itself
ROOT/moving-from     this is what a move makes; see `store/move.py`
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from .durable import replace_through, sync_directory
from .errors import Unavailable

POINTER = "moved-to"
INCOMING = "moving-from"
_MOST_MOVES = 8
_MAX_BYTES = 16 << 10


class StoreUnreachable(Unavailable):
    """The store is elsewhere, and can't be used from here now; says why."""

    code = "store_unreachable"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A store that is being brought here: whose it is, and where it has been so far."""

    home: Path
    source: Path


def find_root(home: Path) -> Path:
    """The root of the store that belongs to `home`. Raises StoreUnreachable."""
    root = home
    for _ in range(_MOST_MOVES):
        told = read_pointer(root)
        if told is None:
            _refuse_unfinished(root)
            if root != home and not (root / "blobs").is_dir():
                raise StoreUnreachable(
                    f"the store of {home} was moved to {root}, and is not there; plug its disk in"
                )
            return root
        root = told
    raise StoreUnreachable(f"{home / POINTER} leads round in circles")


def read_pointer(home: Path) -> Path | None:
    """Where the store of `home` was moved to, None if it never was."""
    try:
        data = (home / POINTER).read_bytes()[:_MAX_BYTES].rstrip(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnreachable(f"can't read {home / POINTER}: {error.strerror}") from error
    if not data.startswith(b"/"):
        raise StoreUnreachable(f"{home / POINTER} names no absolute path")
    return Path(os.fsdecode(data))


def write_pointer(home: Path, root: Path) -> None:
    """From now on the store of `home` is at `root`; after any crash it is there or where it was."""
    if root != home:
        put_file(home / POINTER, os.fsencode(root) + b"\n")
        return
    (home / POINTER).unlink(missing_ok=True)
    sync_directory(home)


def read_incoming(root: Path) -> Incoming | None:
    """What is being brought to `root`, None for any other place. Raises StoreUnreachable."""
    try:
        told = json.loads((root / INCOMING).read_bytes()[:_MAX_BYTES])
        return Incoming(Path(told["home"]), Path(told["source"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreUnreachable(f"can't read {root / INCOMING}: {error}") from error


def write_incoming(root: Path, incoming: Incoming) -> None:
    told = {"home": str(incoming.home), "source": str(incoming.source)}
    put_file(root / INCOMING, json.dumps(told).encode())


def put_file(path: Path, data: bytes) -> None:
    """As `replace_file` where there is no `partial/`: what a crash leaves has always one name."""
    temporary = temporary_of(path)
    temporary.unlink(missing_ok=True)
    replace_through(temporary, path, data)


def temporary_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def is_committed(root: Path, incoming: Incoming) -> bool:
    """Whether the move to `root` is through: its home says that the store is here."""
    return (read_pointer(incoming.home) or incoming.home) == root


def _refuse_unfinished(root: Path) -> None:
    incoming = read_incoming(root)
    if incoming is not None and not is_committed(root, incoming):
        raise StoreUnreachable(
            f"the store of {incoming.home} is being moved to {root} and still is at "
            f"{incoming.source}; with QM_HOME={incoming.home}, qm store move {root} goes on"
        )
