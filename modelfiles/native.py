"""The one module that imports llama_cpp: its low-level binding, and what guards its use.

`C` has llama.cpp's functions as ctypes sees them; `qm.daemon.runner` and `build.native_model` put
types around those that they need. The binding's package module is never executed: its
`__init__` imports numpy and every chat format (43 MB), while the low-level module alone needs 5.
Import this only in a process that can be killed: native code crashes and hangs.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any, Final

_DISTRIBUTION: Final = "llama_cpp_python"


def _bind() -> Any:  # Any: ctypes functions, typed by the wrappers around them
    """The low-level binding, without executing the package that holds it."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("llama-cpp-python is not installed")
    if "llama_cpp" not in sys.modules:
        package = types.ModuleType("llama_cpp")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["llama_cpp"] = package
    return importlib.import_module("llama_cpp.llama_cpp")


C: Final = _bind()


def bind_media() -> Any:  # Any: ctypes functions
    """The binding of mtmd, llama.cpp's library for images and sounds."""
    return importlib.import_module("llama_cpp.mtmd_cpp")


def binding_version() -> str:
    """Version of llama-cpp-python: as what it was installed beside says in its name.

    `importlib.metadata` would tell too, and take a quarter of a runner's start to be imported.
    """
    (package,) = sys.modules["llama_cpp"].__path__
    found = [path.stem for path in Path(package).parent.glob(f"{_DISTRIBUTION}-*.dist-info")]
    if len(found) == 1:
        return found[0].removeprefix(f"{_DISTRIBUTION}-")
    return _registered_version()


def _registered_version() -> str:
    """Where the package was installed in another way."""
    from importlib.metadata import version  # noqa: PLC0415

    return version(_DISTRIBUTION)


def fill(params: Any, values: dict[str, object]) -> Any:
    """Sets fields of a ctypes struct; a name that the struct lacks raises instead of vanishing."""
    known = {field[0] for field in params._fields_}
    for name, value in values.items():
        if name not in known:
            raise AttributeError(f"{type(params).__name__} has no field {name!r}")
        setattr(params, name, value)
    return params
