"""Which llama-cpp-python is installed: found without importing any of it."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

PACKAGE: Final = "llama_cpp"
_DISTRIBUTION: Final = "llama_cpp_python"


def binding_spec() -> ModuleSpec:
    """Where the package is. Raises ImportError."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("llama-cpp-python is not installed")
    return spec


def binding_version() -> str:
    """Version of llama-cpp-python: as what it was installed beside says in its name.

    `importlib.metadata` would tell too, and take a quarter of a runner's start to be imported.
    """
    package, *_ = binding_spec().submodule_search_locations or ("",)
    found = [path.stem for path in Path(package).parent.glob(f"{_DISTRIBUTION}-*.dist-info")]
    if len(found) == 1:
        return found[0].removeprefix(f"{_DISTRIBUTION}-")
    return _registered_version()


def _registered_version() -> str:
    """Where the package was installed in another way."""
    from importlib.metadata import version  # noqa: PLC0415

    return version(_DISTRIBUTION)
