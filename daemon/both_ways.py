"""Whose attention looks both ways: such a model needs an input in one piece. Pure."""

from __future__ import annotations

from typing import Final

_ALWAYS: Final = frozenset({"gemma-embedding", "t5encoder"})  # whose files need not say it


def sees_ahead(architecture: str, causal: object) -> bool:
    """For an architecture, and what its file says of `attention.causal`: None where it doesn't."""
    return causal is False or (causal is None and architecture in _ALWAYS)
