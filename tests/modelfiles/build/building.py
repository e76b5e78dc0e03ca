"""Builds of a repository's files, for processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from qm.modelfiles.build.ahead import Ahead
from qm.modelfiles.build.create import create
from qm.modelfiles.build.register import Progress
from qm.modelfiles.create_request import from_create_request
from qm.store.image import MODEL_TYPE
from qm.store.name import Name
from qm.store.store import open_store


def built(home: Path, repository: Path, quantize: str) -> tuple[str, list[str | None]]:
    """The weights' digest, and what steps gave that were begun ahead."""
    results, result = list[str | None](), Ahead.result

    def noted(self: Ahead, on_progress: Progress) -> str | None:
        results.append(result(self, on_progress))
        return results[-1]

    store = open_store(home)
    request = {
        "files": {path.name: store.blobs.put(path.read_bytes()) for path in repository.iterdir()},
        **({"quantize": quantize, "imatrix": "none"} if quantize else {}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ahead, "result", noted)
        manifest = create(store, Name.parse("m"), from_create_request(request), lambda _: None)
    (weights,) = [each.digest for each in manifest.layers if each.media_type == MODEL_TYPE]
    return weights, results
