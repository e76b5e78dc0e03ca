"""A store to build in, and GGUF files of a few hundred bytes to build from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
import pytest
from qm.store.store import Store, open_store

MakeGguf: TypeAlias = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(tmp_path / "store")


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    """A GGUF that belongs to the user."""
    path = tmp_path / "mine.gguf"
    write_gguf(path, "llama", 32, {})
    return path


@pytest.fixture
def make_gguf(store: Store, tmp_path: Path) -> MakeGguf:
    """`make_gguf(key=value, …)` puts a tiny GGUF into the store and gives its digest.

    Dots of the keys are written as two underscores; `architecture` defaults to llama.
    """

    def make(*, architecture: str = "llama", size: int = 32, **metadata: object) -> str:
        path = tmp_path / "tiny.gguf"
        write_gguf(path, architecture, size, metadata)
        digest = store.blobs.adopt(path).digest
        path.unlink()
        return digest

    return make


def write_gguf(path: Path, architecture: str, size: int, metadata: Mapping[str, object]) -> None:
    """A GGUF with one tensor of `size` numbers."""
    writer = gguf.GGUFWriter(path, architecture)
    for written, value in metadata.items():
        key = written.replace("__", ".")
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
            case _:
                raise TypeError(f"{key}: {value!r}")
    writer.add_tensor("token_embd.weight", np.arange(size, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
