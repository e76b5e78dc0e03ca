"""What of a locked model came from no hub: files named by digest, to be found where it is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from qm.store.errors import InvalidRequest

from .client import Client, JsonObject
from .sources import bring

if TYPE_CHECKING:
    from qm.modelfiles.spec import Source

_FOLDERS = ("delta/", "adapter/")
_KEYS = ("files", "delta_files", "adapters", "imatrix_file")


class InputMissing(InvalidRequest):
    """A file that a model is built from lies neither here nor in the store."""

    code = "input_missing"


def files_within(made: JsonObject, folder: str) -> tuple[Source, ...]:
    """The build's files that came from `folder`; an empty one means the repository itself."""
    from qm.modelfiles.spec import Source

    found = made.get("files") or {}
    return tuple(
        Source(name.removeprefix(folder), digest)
        for name, digest in found.items()
        if (name.startswith(folder) if folder else not name.startswith(_FOLDERS))
    )


def weights_of(made: JsonObject, weights: list[str]) -> tuple[Source, ...]:
    """The GGUF that the first step began with, or that the model is where there was none."""
    from qm.modelfiles.spec import Source

    if steps := made.get("steps"):
        inputs = steps[0]["inputs"]
        weights = [inputs[role] for role in sorted(inputs) if role.partition(".")[0] == "model"]
    return tuple(
        Source(f"model-{number:05}.gguf", digest) for number, digest in enumerate(weights, 1)
    )


def bring_missing(client: Client, request: JsonObject, folder: Path) -> None:
    """Puts into the store what the request names by digest; looks in `folder` and one below.

    Raises InputMissing.
    """
    digest_of = cache(_digest)  # of gigabytes, each of which may be looked at for several names
    for key in _KEYS:
        files: Mapping[str, str] = request.get(key) or {}
        for name, digest in files.items():
            if client.has_blob(digest):
                continue
            path = next((each for each in _likely(folder, name) if digest_of(each) == digest), None)
            if path is None:
                raise InputMissing(f"{name} ({digest}) is needed; put it into {folder.absolute()}")
            bring(client, path)


def _likely(folder: Path, name: str) -> Iterator[Path]:
    """Files of that name, then others of its kind."""
    for pattern in (name, f"*/{name}", f"*{Path(name).suffix}", f"*/*{Path(name).suffix}"):
        yield from (path for path in sorted(folder.glob(pattern)) if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{file_digest(file, 'sha256').hexdigest()}"
