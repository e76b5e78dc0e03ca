"""Which module converts which architecture."""

from __future__ import annotations

from .errors import CannotRun, UnknownArchitecture
from .family import Family
from .llama import Llama, Mistral, Mixtral

_FAMILIES: tuple[type[Family], ...] = (Llama, Mistral, Mixtral)
_BY_NAME = {name: family for family in _FAMILIES for name in family.architectures}
_NEVER = {"OPTForCausalLM", "OPTModel"}


def family_of(architecture: str) -> type[Family]:
    """Raises CannotRun or UnknownArchitecture when there is none."""
    if architecture in _NEVER:
        raise CannotRun(architecture)
    if architecture not in _BY_NAME:
        raise UnknownArchitecture(architecture)
    return _BY_NAME[architecture]
