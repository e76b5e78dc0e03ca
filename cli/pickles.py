"""`qm create --allow-pickle`: checkpoints that are pickles, opened by a child that may do little.

The child belongs to the build (`qm.modelfiles.build.convert.unpickle`): no secrets, no network.
What it makes of a pickle is safetensors, and those are what the daemon gets to see.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from qm.store.errors import InvalidRequest

from .sources import BESIDE_PATTERNS, PICKLE_PATTERNS, located

if TYPE_CHECKING:
    from qm.modelfiles.spec import ModelSpec, Source

_BUILD = "qm.modelfiles.build.convert"
_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH")


class PickleFailed(InvalidRequest):
    """The checkpoint could not be opened."""

    code = "pickle_failed"


@contextmanager
def opened_pickles(spec: ModelSpec, folder: Path) -> Iterator[ModelSpec]:
    """The spec with safetensors in the place of directories of pickles, as long as it lasts."""
    with tempfile.TemporaryDirectory(prefix="qm-pickle-") as scratch:
        yield replace(
            spec,
            from_=tuple(_opened(spec.from_, folder, Path(scratch))),
            deltas=tuple(_opened(spec.deltas, folder, Path(scratch))),
        )


def _opened(sources: tuple[Source, ...], folder: Path, scratch: Path) -> Iterator[Source]:
    for source in sources:
        path = located(source, folder)
        if source.is_hub or not path.is_dir() or not _has_only_pickles(path):
            yield source
            continue
        out = Path(tempfile.mkdtemp(dir=scratch))
        _unpickle(path, out)
        beside = {file for glob in BESIDE_PATTERNS for file in path.glob(glob)}
        made = [*sorted(beside), *sorted(out.glob("*.safetensors"))]
        yield from (replace(source, text=str(file)) for file in made)


def _has_only_pickles(path: Path) -> bool:
    found = any(file for glob in PICKLE_PATTERNS for file in path.glob(glob))
    return found and not any(path.glob("*.safetensors")) and not any(path.glob("*.gguf"))


def _unpickle(path: Path, out: Path) -> None:
    if find_spec("torch") is None:
        raise PickleFailed("opening a pickle needs torch; install it: pip install 'qm[convert]'")
    click.echo(f"opening the pickles of {path.name}", err=True)
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    command = [sys.executable, "-m", f"{_BUILD}.child", f"{_BUILD}.unpickle", str(path), str(out)]
    result = subprocess.run(
        command,
        env=env | {"HOME": str(out), "TMPDIR": str(out)},
        cwd=out,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if result.returncode:
        words = result.stderr.decode(errors="replace").strip().splitlines()
        raise PickleFailed(f"the pickles of {path} can't be opened: {words[-1] if words else '?'}")
