"""Metadata and listings, as the hub's API prints them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from .repos import Blob

_WHEN = "2026-01-01T00:00:00.000Z"


def info(
    repo: str, commit: str, files: Mapping[str, Blob], config: Mapping[str, Any], *, sizes: bool
) -> dict[str, object]:
    """A repository's metadata; `sizes` adds what each file is made of."""
    return {
        "_id": commit[:24],
        "id": repo,
        "modelId": repo,
        "author": repo.split("/", maxsplit=1)[0],
        "sha": commit,
        "lastModified": _WHEN,
        "createdAt": _WHEN,
        "private": bool(config.get("private")),
        "gated": config.get("gated", False),
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [_sibling(blob, sizes) for blob in files.values()],
        "usedStorage": sum(blob.size for blob in files.values()),
        **config.get("info", {}),
    }


def _sibling(blob: Blob, sizes: bool) -> dict[str, object]:
    sibling: dict[str, object] = {"rfilename": blob.path}
    if sizes:
        sibling |= {"size": blob.size, "blobId": blob.oid}
        if lfs := blob.lfs_json("sha256"):
            sibling["lfs"] = lfs
    return sibling


def tree_entry(blob: Blob) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "oid": blob.oid, "size": blob.size}
    entry["path"] = blob.path
    if lfs := blob.lfs_json("oid"):
        entry["lfs"] = lfs
    return entry


def tree(under: str, files: Mapping[str, Blob], *, deep: bool) -> list[dict[str, object]]:
    """Files and folders below `under`, sorted by path; empty when there is no such folder."""
    prefix = f"{under}/" if under else ""
    entries: dict[str, dict[str, object]] = {}
    for path, blob in files.items():
        if not path.startswith(prefix):
            continue
        *folders, _ = path[len(prefix) :].split("/")
        for depth in range(len(folders)) if deep else range(min(1, len(folders))):
            name = prefix + "/".join(folders[: depth + 1])
            oid = hashlib.sha1(name.encode()).hexdigest()
            entries[name] = {"type": "directory", "oid": oid, "size": 0, "path": name}
        if deep or not folders:
            entries[path] = tree_entry(blob)
    return [entries[name] for name in sorted(entries)]
