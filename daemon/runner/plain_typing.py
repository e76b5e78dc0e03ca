"""Python's own `typing` in the place of typing_extensions; import this before whatever wants that.

The libraries of a runner want a few names of it, all of which `typing` has by now. To execute it
takes a twentieth of a small model's start.
"""

from __future__ import annotations

import importlib
import sys
import types
import typing
from typing import Final

_EXTENSIONS: Final = "typing_extensions"


class _PlainTyping(types.ModuleType):
    """Has what `typing` has; the real module comes with the first name that it lacks."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the import system asks
            raise AttributeError(name)
        try:
            return getattr(typing, name)
        except AttributeError:
            if sys.modules.get(_EXTENSIONS) is self:
                del sys.modules[_EXTENSIONS]
            return getattr(importlib.import_module(_EXTENSIONS), name)


if _EXTENSIONS not in sys.modules:
    sys.modules[_EXTENSIONS] = _PlainTyping(_EXTENSIONS)
