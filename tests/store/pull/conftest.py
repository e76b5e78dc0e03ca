"""A hub on loopback with one repository, and an empty store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from qm.store.store import Store, open_store

from tests.fakehub import FakeHub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Serves `tmp_path/repos`; nobody is logged in, and the cache is empty."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "repos").mkdir()
    with FakeHub(tmp_path / "repos") as hub:
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")
