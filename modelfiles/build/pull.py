"""`qm pull`: a repository of the hub becomes a registered model.

listing → choice → files, each as a blob → template, parameters, licence → manifest
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qm.store.claims import end_claims
from qm.store.image import Manifest
from qm.store.leases import hold
from qm.store.manifests import ModelNotFound
from qm.store.pull.choice import CHOICE, make_choice
from qm.store.pull.download import Limits
from qm.store.pull.fetch import RepoFetch
from qm.store.pull.freshness import REVISION
from qm.store.pull.hub import list_repo
from qm.store.pull.reference import Reference
from qm.store.store import Store

from ..spec import ModelSpec, Source
from .create import create
from .extras import extras, readable_extras

Progress: TypeAlias = Callable[[dict[str, object]], None]

SOURCE = "org.opencontainers.image.source"
FILE = "qm.file."  # + digest: the file's path in the repository
_LIST = "pulling manifest"
_REGISTER = "writing manifest"


def pull(
    store: Store,
    reference: Reference,
    on_progress: Progress,
    *,
    limits: Limits | None = None,
    memory_bytes: int | None = None,
    endpoint: str | None = None,
) -> Manifest:
    """The model, registered under `reference.name`.

    Raises what `list_repo`, `choose`, `download` and `create` raise.
    """
    on_progress({"status": _LIST})
    listing = list_repo(reference.repo, reference.revision, endpoint)
    choice = make_choice(listing.files, reference, memory_bytes)
    if (present := _present(store, reference, choice.digest)) is not None:
        return present
    beside = readable_extras(listing.files, on_progress)
    with hold(store.layout) as lease:
        fetch = RepoFetch(store, lease, listing, on_progress, limits or Limits())
        fetched = fetch.fetch(choice.files)
        sources = fetch.fetch(beside)
        texts = {path: each.path.read_bytes() for path, each in sources.items()}
        on_progress({"status": "verifying sha256 digest"})  # done while the bytes came
        weights = tuple(Source(path, each.digest) for path, each in fetched.items())
        spec = extras(ModelSpec(from_=weights), texts, listing.license, on_progress)
        annotations = {
            SOURCE: f"hf.co/{listing.repo}",
            REVISION: listing.commit,
            CHOICE: choice.digest,
        }
        annotations |= {f"{FILE}{each.digest}": path for path, each in fetched.items()}
        made = create(
            store, reference.name, spec, _registering(on_progress), annotations=annotations
        )
        # what was made of these is in layers of its own
        end_claims(store.layout, (each.digest for each in sources.values() if each.new))
        return made


def _present(store: Store, reference: Reference, choice: str) -> Manifest | None:
    """The model as it is here, if it was made from the same files and has them all."""
    try:
        manifest = store.manifests.read(reference.name).manifest
    except ModelNotFound:
        return None
    same = manifest.annotations.get(CHOICE) == choice
    return manifest if same and all(map(store.blobs.has, manifest.blobs())) else None


def _registering(on_progress: Progress) -> Progress:
    """Of what `create` tells, the steps that a pull tells too."""

    def tell(step: dict[str, object]) -> None:
        if step["status"] == _REGISTER:
            on_progress(step)

    return tell
