"""What `FROM hf.co/org/repo` needs of a repository: its files as blobs, to be built in a next job.

Downloading and building are two jobs, because who runs native code on files of strangers must not
have the token of the hub in its environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qm.store.errors import InvalidRequest
from qm.store.leases import hold
from qm.store.pull.choose import RepoFile, choose, variants
from qm.store.pull.fetch import RepoFetch
from qm.store.pull.hub import Listing, list_repo
from qm.store.pull.reference import parse_reference
from qm.store.store import Store

from .register import Progress

ENDINGS: Final = (".safetensors", ".json", ".model", ".txt", ".jinja")
_PICKLES: Final = (".bin", ".pth", ".pt", ".ckpt")


class OnlyPickles(InvalidRequest):
    """The weights are pickles, which can run any code when they are opened."""

    code = "pickle_refused"


def fetch_sources(
    store: Store, text: str, on_progress: Progress, *, full: bool
) -> dict[str, object]:
    """`files` by name with their digests, `repository` and `commit`.

    `full` prefers the weights that can be quantised to the GGUF files beside them. Raises what
    `list_repo`, `choose` and `RepoFetch` raise, and OnlyPickles.
    """
    reference = parse_reference(text)
    listing = list_repo(reference.repo, reference.revision)
    asked = reference.quant is not None or reference.file is not None
    if not asked and _is_convertible(listing) and (full or not variants(listing.files)):
        files = _repository(listing)
    else:
        _refuse_pickles(listing)
        files = choose(listing.files, reference).variant.parts
    with hold(store.layout) as lease:
        fetched = RepoFetch(store, lease, listing, on_progress).fetch(files)
        for each in fetched.values():
            store.blobs.keep(each.digest)  # until the next job has its lease
    return {
        "files": {path.rpartition("/")[2]: each.digest for path, each in fetched.items()},
        "repository": f"hf.co/{listing.repo}",
        "commit": listing.commit,
    }


def _is_convertible(listing: Listing) -> bool:
    return any(file.path.endswith(".safetensors") for file in _repository(listing))


def _repository(listing: Listing) -> Sequence[RepoFile]:
    """What a conversion reads: files of the top folder."""
    return tuple(
        file for file in listing.files if "/" not in file.path and file.path.endswith(ENDINGS)
    )


def _refuse_pickles(listing: Listing) -> None:
    """Where there is nothing else."""
    if variants(listing.files):
        return
    pickles = [file.path for file in listing.files if file.path.endswith(_PICKLES)]
    if pickles:
        raise OnlyPickles(
            f"{listing.repo} has its weights as a pickle ({pickles[0]}), which can run any code "
            "when it is opened; convert it to safetensors where that does no harm"
        )
