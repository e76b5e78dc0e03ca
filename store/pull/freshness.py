"""Whether a model of the hub that is here is what the hub has now: one question, and no more.

`huggingface_hub` takes longer to import than this takes to answer. Whatever is out of the ordinary
is left to it: then this only says that it does not know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import constants

from ..errors import QmError
from ..image import Manifest
from ..manifests import ModelNotFound
from ..store import Store
from .addresses import Origin, Policy
from .answers import MOST_ANSWER_BYTES
from .connection import BROKEN, Connection, Located
from .reference import COMMIT, Reference

REVISION = "org.opencontainers.image.revision"  # the commit that a model was made from
_DOUBTS: tuple[type[Exception], ...] = (*BROKEN, QmError, ValueError, RecursionError)
_STALL_S = 5.0
_CHUNK = 1 << 16


def is_current(store: Store, reference: Reference, endpoint: str | None = None) -> bool:
    """True if the model is here, whole, and made from the commit that the hub has now.

    In offline mode it is enough that it is here. False also means that nobody knows.
    """
    manifest = _complete(store, reference)
    commit = manifest.annotations.get(REVISION) if manifest is not None else None
    if commit is None:
        return False
    if constants.HF_HUB_OFFLINE or reference.revision == commit:
        return True
    try:
        return _commit_of(reference, (endpoint or constants.ENDPOINT).rstrip("/")) == commit
    except _DOUBTS:  # the full way meets the same, and tells what it is
        return False


def _complete(store: Store, reference: Reference) -> Manifest | None:
    try:
        manifest = store.manifests.read(reference.name).manifest
    except ModelNotFound:
        return None
    return manifest if all(map(store.blobs.has, manifest.blobs())) else None


def _commit_of(reference: Reference, endpoint: str) -> str | None:
    """What the revision means now. Raises BROKEN, QmError, ValueError."""
    revision = quote(reference.revision, safe="")
    url = f"{endpoint}/api/models/{reference.repo}/revision/{revision}?expand=sha"
    with Connection(Policy(Origin.of(endpoint)), stall_s=_STALL_S) as connection:
        answer = connection.get(Located(url, _authorization()), {})
        if answer.status != 200:
            return None
        body, view = bytearray(), memoryview(bytearray(_CHUNK))
        while len(body) <= MOST_ANSWER_BYTES and (count := answer.readinto(view)):
            body += view[:count]
    commit = json.loads(body).get("sha")
    return commit if isinstance(commit, str) and COMMIT.fullmatch(commit) else None


def _authorization(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """As huggingface_hub finds its token."""
    token = environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not token:
        try:
            token = Path(constants.HF_TOKEN_PATH).read_text()
        except OSError:
            return {}
    token = token.strip()
    return {"Authorization": f"Bearer {token}"} if token.isprintable() and token else {}
