"""A tiny model, and a process for what llama.cpp does, as a daemon's jobs have one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import pytest
from qm.daemon.runner.isolation import forgo_amx


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module that writes tiny models."""
    spec = spec_from_file_location("tiny_llama", Path(__file__).with_name("tiny_llama.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_llama(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF in F16 that llama.cpp loads in no time; don't change it."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny.write_tiny_llama(path)
    return path


@pytest.fixture(scope="session")
def child() -> Iterator[ProcessPoolExecutor]:
    """`child.submit(function, …)` runs it where llama.cpp may crash without ending the tests."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=forgo_amx) as pool:
        yield pool
