"""Blobs under the names that tools look for: a directory of links, gone afterwards."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from qm.store.errors import InvalidRequest
from qm.store.layout import Layout
from qm.store.locks import publishing, try_lock

REPOSITORY_ENDINGS = (".safetensors", ".json", ".model", ".txt", ".jinja", "readme.md")
"""Of the files of a Hugging Face repository that a conversion reads, in lower case."""

PICKLE = re.compile(r"pytorch_model[^/]*\.bin|[^/]*\.(pth|pt)", re.IGNORECASE)
"""Weights of a repository that only a child may open."""

POOLING = re.compile(r"[0-9]_Pooling/config\.json")
"""Where sentence-transformers keep how a text's vectors become one."""

_NAME = re.compile(r"([0-9]_Pooling/)?[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")


class BadFileName(InvalidRequest):
    """A file's name that can't be one of a repository's own."""

    code = "bad_file_name"


def check_file_name(name: str) -> None:
    """Raises BadFileName for anything but a plain name, as no path may be made of it."""
    if not _NAME.fullmatch(name):
        raise BadFileName(f"{name[:100]!r} can't be the name of a file of a repository")


@contextmanager
def linked(layout: Layout, files: Mapping[str, Path]) -> Iterator[Path]:
    """A directory that has `files` by name. Raises BadFileName."""
    for name in files:
        check_file_name(name)
    directory = layout.partial / f"write-{secrets.token_hex(12)}"
    with publishing(layout):  # so that nobody sees the directory before its lock
        directory.mkdir(mode=0o700)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        assert try_lock(fd), "only a collector locks others' files, and it is kept out"
    try:
        for name, path in files.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).symlink_to(path)
        yield directory
    finally:
        shutil.rmtree(directory)
        os.close(fd)
