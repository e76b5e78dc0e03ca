"""Whether a model of a registry that is here is what the registry has now: one question."""

from __future__ import annotations

from ..errors import QmError
from ..image import Manifest
from ..manifests import ModelNotFound
from ..name import Name
from ..store import Store
from .registry import Endpoint, Session


def is_current_image(store: Store, endpoint: Endpoint, name: Name) -> bool:
    """True if it is. False also means that nobody knows: then a pull finds out, and tells why.

    Nothing of what a transfer takes is imported for it.
    """
    try:
        store.manifests.read(name)
        with Session.about(endpoint, name, "pull") as session:
            return is_present(store, name, Manifest.parse(session.manifest(name.tag)))
    except QmError:
        return False


def is_present(store: Store, name: Name, manifest: Manifest) -> bool:
    """Whether `name` stands for the very same model here, with all of its blobs."""
    try:
        stored = store.manifests.read(name)
    except ModelNotFound:
        return False
    return stored.manifest == manifest and all(map(store.blobs.has, manifest.blobs()))
