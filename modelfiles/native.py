"""The one module that imports llama_cpp: its low-level binding, and what guards its use.

`C` has llama.cpp's functions as ctypes sees them; `qm.daemon.runner` and `build.native_model` put
types around those that they need. The binding's package module is never executed: its
`__init__` imports numpy and every chat format (43 MB), while the low-level module alone needs 5.
Import this only in a process that can be killed: native code crashes and hangs.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any, Final

from .binding import PACKAGE, binding_spec


def _bind() -> Any:  # Any: ctypes functions, typed by the wrappers around them
    """The low-level binding, without executing the package that holds it."""
    if PACKAGE not in sys.modules:
        spec = binding_spec()
        package = types.ModuleType(PACKAGE)
        package.__path__ = list(spec.submodule_search_locations or ())
        package.__spec__ = spec
        sys.modules[PACKAGE] = package
    return importlib.import_module("llama_cpp.llama_cpp")


C: Final = _bind()


def bind_media() -> Any:  # Any: ctypes functions
    """The binding of mtmd, llama.cpp's library for images and sounds."""
    return importlib.import_module("llama_cpp.mtmd_cpp")


def declare(name: str, result: Any, *arguments: Any) -> Any:  # Any: ctypes
    """A function of llama.cpp's or ggml's that the binding leaves out."""
    function = getattr(C._lib, name)
    function.restype, function.argtypes = result, arguments
    return function


def fill(params: Any, values: dict[str, object]) -> Any:
    """Sets fields of a ctypes struct; a name that the struct lacks raises instead of vanishing."""
    known = {field[0] for field in params._fields_}
    for name, value in values.items():
        if name not in known:
            raise AttributeError(f"{type(params).__name__} has no field {name!r}")
        setattr(params, name, value)
    return params
