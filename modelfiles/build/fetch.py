"""What a build needs from the hub: files of repositories as blobs, to be built in a next job.

Downloading and building are two jobs, because who runs native code on files of strangers must not
have the token of the hub in its environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from qm.store.errors import InvalidRequest, NotFound
from qm.store.leases import hold
from qm.store.pull.choose import RepoFile, choose, variants
from qm.store.pull.fetch import RepoFetch
from qm.store.pull.hub import Listing, list_repo
from qm.store.pull.reference import Reference, parse_file_reference, parse_reference
from qm.store.store import Store

from ..parameters import to_json
from ..spec import ModelSpec
from .extras import extras, readable_extras
from .links import PICKLE, POOLING, REPOSITORY_ENDINGS
from .register import Progress

_PICKLES: Final = (".bin", ".pth", ".pt", ".ckpt")
_ADAPTER: Final = ("adapter_config.json", "adapter_model.safetensors")
_NEAR_MISSES = 12

Choice: TypeAlias = Callable[[Listing, Reference], Sequence[RepoFile]]


class OnlyPickles(InvalidRequest):
    """The weights are pickles, which can run any code when they are opened."""

    code = "pickle_refused"


class NoSuchFile(NotFound):
    """The repository has no such file; the message lists some that it has."""

    code = "no_such_file"


class NoWeights(InvalidRequest):
    """A repository that was named for what it does not have."""

    code = "no_weights"


def fetch_sources(
    store: Store,
    text: str,
    on_progress: Progress,
    *,
    part: str,
    full: bool,
    pickles: bool = False,
) -> dict[str, object]:
    """`files` by name with their digests, `repository`, `commit`, and `defaults`: what a request
    to create the model asks for besides, unless it says otherwise.

    `part` is one of PARTS: what of the repository is wanted. `full` prefers the weights that can
    be quantised to the GGUF files beside them, `pickles` takes those where there is nothing else to
    convert. Raises what `list_repo`, `choose` and `RepoFetch`
    raise, OnlyPickles, NoSuchFile and NoWeights.
    """
    reference = parse_file_reference(text) if part == "file" else parse_reference(text)
    listing = list_repo(reference.repo, reference.revision)
    taken = _with_pickles(listing) if pickles and part in ("model", "delta") else ()
    chosen = taken or PARTS["full" if part == "model" and full else part](listing, reference)
    beside = readable_extras(listing.files, on_progress) if part == "model" else []
    with hold(store.layout) as lease:
        fetch = RepoFetch(store, lease, listing, on_progress)
        fetched = fetch.fetch(chosen)
        texts = {path: each.path.read_bytes() for path, each in fetch.fetch(beside).items()}
        for each in fetched.values():
            store.blobs.keep(each.digest)  # until the next job has its lease
    return {
        "files": {_name(path): each.digest for path, each in fetched.items()},
        "defaults": _defaults(texts, listing, on_progress) if part == "model" else {},
        "repository": f"hf.co/{listing.repo}",
        "commit": listing.commit,
    }


def _name(path: str) -> str:
    """What the file is called here."""
    return path if POOLING.fullmatch(path) else path.rpartition("/")[2]


def _defaults(
    texts: Mapping[str, bytes], listing: Listing, on_progress: Progress
) -> dict[str, object]:
    """The same as a pull takes from these files."""
    told = extras(ModelSpec(from_=()), texts, listing.license, on_progress)
    values: dict[str, object] = {
        "template": told.template,
        "system": told.system,
        "parameters": to_json(told.parameters),
        "license": list(told.licenses),
    }
    return {key: value for key, value in values.items() if value}


def _model(listing: Listing, reference: Reference, *, full: bool = False) -> Sequence[RepoFile]:
    asked = reference.quant is not None or reference.file is not None
    if not asked and _is_convertible(listing) and (full or not variants(listing.files)):
        return _repository(listing)
    _refuse_pickles(listing)
    return choose(listing.files, reference).variant.parts


def _full_model(listing: Listing, reference: Reference) -> Sequence[RepoFile]:
    return _model(listing, reference, full=True)


def _delta(listing: Listing, _reference: Reference) -> Sequence[RepoFile]:
    if not _is_convertible(listing):
        _refuse_pickles(listing)
        raise NoWeights(f"{listing.repo} has no safetensors, so it is no DELTA to a model")
    return _repository(listing)


def _adapter(listing: Listing, reference: Reference) -> Sequence[RepoFile]:
    """As PEFT stores it, or the only GGUF."""
    files = {file.path: file for file in listing.files}
    if all(name in files for name in _ADAPTER):
        return [files[name] for name in _ADAPTER]
    if not variants(listing.files):
        _refuse_pickles(listing)
        raise NoWeights(f"{listing.repo} has no adapter: neither {_ADAPTER[1]} nor a GGUF")
    return choose(listing.files, reference).variant.parts


def _file(listing: Listing, reference: Reference) -> Sequence[RepoFile]:
    found = [file for file in listing.files if file.path == reference.file]
    if not found:
        names = [file.path for file in listing.files]
        likely = [name for name in names if "imatrix" in name.lower()] or names
        raise NoSuchFile(
            f"{listing.repo} has no file {reference.file}; it has: "
            + ", ".join(likely[:_NEAR_MISSES])
        )
    return found


PARTS: Final[Mapping[str, Choice]] = {
    "model": _model,
    "full": _full_model,
    "delta": _delta,
    "adapter": _adapter,
    "file": _file,
}


def _with_pickles(listing: Listing) -> Sequence[RepoFile]:
    """A repository whose weights are pickles and nothing else; none where it isn't one."""
    found = [file for file in listing.files if PICKLE.fullmatch(file.path)]
    weights = [file for file in found if file.path.startswith("pytorch_model")] or found
    if _is_convertible(listing) or variants(listing.files):
        return ()
    return (*_repository(listing), *weights) if weights else ()


def _is_convertible(listing: Listing) -> bool:
    return any(file.path.endswith(".safetensors") for file in _repository(listing))


def _repository(listing: Listing) -> Sequence[RepoFile]:
    """What a conversion reads: files of the top folder and how to pool, of weights in two layouts
    only one.
    """
    top = [
        file
        for file in listing.files
        if POOLING.fullmatch(file.path)
        or ("/" not in file.path and file.path.lower().endswith(REPOSITORY_ENDINGS))
    ]
    usual = any(_is_weights(file) and file.path.startswith("model") for file in top)
    return tuple(
        file for file in top if not _is_weights(file) or not usual or file.path.startswith("model")
    )


def _is_weights(file: RepoFile) -> bool:
    return file.path.endswith(".safetensors")


def _refuse_pickles(listing: Listing) -> None:
    """Where there is nothing else."""
    if variants(listing.files):
        return
    pickles = [file.path for file in listing.files if file.path.endswith(_PICKLES)]
    if pickles:
        raise OnlyPickles(
            f"{listing.repo} has its weights as a pickle ({pickles[0]}), which can run any code "
            "when it is opened; convert it to safetensors where that does no harm, or say "
            "--allow-pickle"
        )
