"""Stored conversations: KV snapshots in `kv/`, which go when the weights go that they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from .layout import Layout

_NAME_PART: Final = 16


def snapshot_prefix(weights_digest: str) -> str:
    """How the names of all snapshots of these weights begin."""
    return hashlib.sha256(weights_digest.encode()).hexdigest()[:_NAME_PART] + "-"


def forget_conversations(layout: Layout, weights_digests: Iterable[str]) -> None:
    """Deletes the snapshots of these weights."""
    for digest in weights_digests:
        for path in layout.kv.glob(snapshot_prefix(digest) + "*"):
            path.unlink(missing_ok=True)
