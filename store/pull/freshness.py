"""Whether a model of the hub that is here is what the hub has now: one question; one more where the
repository moved on, whose files may be the same.

`huggingface_hub` takes longer to import than this takes to answer. Whatever is out of the ordinary
is left to it: then this only says that it does not know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import constants

from ..errors import QmError
from ..image import Manifest
from ..manifests import ModelNotFound
from ..store import Store
from .addresses import Origin, Policy
from .answers import MOST_ANSWER_BYTES
from .choice import CHOICE, make_choice
from .choose import RepoFile
from .connection import BROKEN, Connection, Located
from .reference import COMMIT, Reference

REVISION = "org.opencontainers.image.revision"  # the commit that a model was made from
_DOUBTS: tuple[type[Exception], ...] = (*BROKEN, QmError, ValueError, RecursionError)
_STALL_S = 5.0
_CHUNK = 1 << 16
HTTP_OK = 200


def is_current(store: Store, reference: Reference, endpoint: str | None = None) -> bool:
    """True if the model is here, whole, and made from the files that the hub has now.

    In offline mode it is enough that it is here. False also means that nobody knows.
    """
    manifest = _complete(store, reference)
    if manifest is None or (commit := manifest.annotations.get(REVISION)) is None:
        return False
    if constants.HF_HUB_OFFLINE or reference.revision == commit:
        return True
    hub = _Hub((endpoint or constants.ENDPOINT).rstrip("/"), reference.repo)
    try:
        now = hub.commit(reference.revision)
        if now == commit:
            return True
        choice = make_choice(hub.files(now), reference)
    except _DOUBTS:  # the full way meets the same, and tells what it is
        return False
    return choice.digest == manifest.annotations.get(CHOICE)


def _complete(store: Store, reference: Reference) -> Manifest | None:
    try:
        manifest = store.manifests.read(reference.name).manifest
    except ModelNotFound:
        return None
    return manifest if all(map(store.blobs.has, manifest.blobs())) else None


@dataclass(frozen=True, slots=True)
class _Hub:
    """What it says of one repository. All raises BROKEN, QmError, ValueError."""

    endpoint: str
    repo: str

    def commit(self, revision: str) -> str:
        """What the revision means now."""
        commit = self._about(revision, "expand=sha").get("sha")
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise ValueError("no commit")
        return commit

    def files(self, commit: str) -> list[RepoFile]:
        siblings = self._about(commit, "blobs=true").get("siblings")
        if not isinstance(siblings, list):
            raise ValueError("no files")
        return [_file(each) for each in siblings]

    def _about(self, revision: str, what: str) -> dict[str, object]:
        url = f"{self.endpoint}/api/models/{self.repo}/revision/{quote(revision, safe='')}?{what}"
        with Connection(Policy(Origin.of(self.endpoint)), stall_s=_STALL_S) as connection:
            answer = connection.get(Located(url, _authorization()), {})
            if answer.status != HTTP_OK:
                raise ValueError(f"status {answer.status}")
            body, view = bytearray(), memoryview(bytearray(_CHUNK))
            while len(body) <= MOST_ANSWER_BYTES and (count := answer.readinto(view)):
                body += view[:count]
        told = json.loads(body)
        if not isinstance(told, dict):
            raise ValueError("no object")
        return told


def _file(sibling: object) -> RepoFile:
    """As `hub.py` has it of huggingface_hub. Raises ValueError."""
    match sibling:
        case {"rfilename": str(path), "size": int(size), "lfs": {"sha256": str(sha256)}}:
            return RepoFile(path, size, f"sha256:{sha256}", "")
        case {"rfilename": str(path), "size": int(size), "blobId": str(oid)}:
            return RepoFile(path, size, None, oid)
    raise ValueError("no file")


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
