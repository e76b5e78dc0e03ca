"""`qm import`: models that other programs keep on this disk, taken in without a second copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from qm.store.adopt import Adoption, Fallback, How, NeedsCopy
from qm.store.errors import Conflict, QmError
from qm.store.image import MODEL_TYPE
from qm.store.leases import Lease, hold
from qm.store.manifests import ModelNotFound
from qm.store.name import Name
from qm.store.pull.local import Found, FoundFiles, FoundImage, Unusable, find_models
from qm.store.store import Store

from ..spec import ModelSpec, Source
from .create import create

Progress: TypeAlias = Callable[[dict[str, object]], None]

_SMALL_BYTES = 1 << 20  # templates and configs: a link would only tie them to their owner
SOURCE = "qm.imported.from"


class NameTaken(Conflict):
    """Another model has the name that an imported one would get."""

    code = "name_taken"


class Outcome(StrEnum):
    """What became of one model."""

    IMPORTED = "imported"
    PRESENT = "present"
    WOULD_IMPORT = "would import"
    NEEDS_COPY = "needs copy"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Imported:
    """One model that was found. `how` is the way of its weights, `reason` why it stays out."""

    name: str
    path: str
    size_bytes: int
    outcome: Outcome
    how: How | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to import. A `name` goes with a single model only."""

    dry_run: bool = False
    copy: bool = False
    name: Name | None = None

    @property
    def fallback(self) -> Fallback:
        return Fallback.COPY if self.copy else Fallback.IN_PLACE


def import_models(
    store: Store, paths: Iterable[Path], wishes: Wishes, on_progress: Progress
) -> Iterator[Imported]:
    """Every model below the paths; what is wrong with one is its own affair.

    Raises NothingThere, and NameTaken when one name is wished for several models.
    """
    found = [each for path in paths for each in find_models(path)]
    usable = [each for each in found if not isinstance(each, Unusable)]
    if wishes.name is not None and len(usable) != 1:
        raise NameTaken(f"{len(usable)} models are there, --name is for one")
    for each in found:
        if isinstance(each, Unusable):
            yield Imported("", str(each.path), 0, Outcome.REFUSED, reason=each.reason)
        else:
            yield _one(store, each, wishes.name or each.name, wishes, on_progress)


def _one(
    store: Store, found: FoundImage | FoundFiles, name: Name, wishes: Wishes, on_progress: Progress
) -> Imported:
    path, size_bytes, how, reason = _place(found), found.size_bytes, None, ""
    try:
        if _is_present(store, found, name):
            outcome = Outcome.PRESENT
        elif wishes.dry_run:
            outcome = Outcome.WOULD_IMPORT
        else:
            how = _take_in(store, found, name, wishes.fallback, on_progress)
            outcome = Outcome.IMPORTED
    except NeedsCopy as error:
        outcome, reason = Outcome.NEEDS_COPY, error.message
    except QmError as error:
        outcome, reason = Outcome.REFUSED, error.message
    return Imported(str(name), path, size_bytes, outcome, how, reason)


def _place(found: Found) -> str:
    match found:
        case FoundImage():
            return str(found.layout.manifest(found.name))
        case FoundFiles():
            return str(found.files[0])
        case Unusable():
            return str(found.path)


def _is_present(store: Store, found: FoundImage | FoundFiles, name: Name) -> bool:
    """Whether the very same model is here and sound. Raises NameTaken for another one."""
    try:
        stored = store.manifests.read(name)
    except ModelNotFound:
        return False
    if isinstance(found, FoundImage):
        same = stored.manifest == found.manifest
    else:
        same = stored.manifest.annotations.get(SOURCE) == str(found.files[0])
    if not same:
        raise NameTaken(f"another model is called {name.short}; choose a name with --name")
    return all(map(store.blobs.has, stored.manifest.blobs()))


def _take_in(
    store: Store,
    found: FoundImage | FoundFiles,
    name: Name,
    fallback: Fallback,
    on_progress: Progress,
) -> How:
    with hold(store.layout) as lease:
        intake = _Intake(store, lease, name, fallback, on_progress)
        return intake.image(found) if isinstance(found, FoundImage) else intake.files(found)


@dataclass(frozen=True, slots=True)
class _Intake:
    """The taking in of one model under `name`; `lease` keeps its blobs meanwhile."""

    store: Store
    lease: Lease
    name: Name
    fallback: Fallback
    on_progress: Progress

    def image(self, found: FoundImage) -> How:
        """The manifest as it is, byte for byte, so that it keeps its digest."""
        manifest, how = found.manifest, How.PRESENT
        self.lease.add(*manifest.blobs())
        for descriptor in (manifest.config, *manifest.layers):
            taken = self._blob(found, descriptor.digest, descriptor.size_bytes)
            if descriptor.media_type == MODEL_TYPE:
                how = taken
        self.store.manifests.write(self.name, manifest, data=found.data)
        return how

    def files(self, found: FoundFiles) -> How:
        """GGUF files become a model like any other that is created from them."""
        adoptions = [self._adopt(path) for path in found.files]
        self.lease.add(*(each.digest for each in adoptions))
        sources = tuple(
            Source(str(path), each.digest)
            for path, each in zip(found.files, adoptions, strict=True)
        )
        annotations = {SOURCE: str(found.files[0])}
        spec = ModelSpec(from_=sources)
        create(self.store, self.name, spec, self.on_progress, annotations=annotations)
        return adoptions[0].how

    def _blob(self, found: FoundImage, digest: str, size_bytes: int) -> How:
        if self.store.blobs.has(digest):
            return How.PRESENT
        path = found.layout.blob(digest).resolve()
        small = size_bytes <= _SMALL_BYTES
        return self._adopt(path, digest, Fallback.COPY if small else self.fallback).how

    def _adopt(
        self, path: Path, digest: str | None = None, fallback: Fallback | None = None
    ) -> Adoption:
        def tell(completed: int, total: int) -> None:
            status = f"importing {self.name.short}"
            step: dict[str, object] = {"status": status, "completed": completed, "total": total}
            self.on_progress(step | ({"digest": digest} if digest else {}))

        return self.store.blobs.adopt(
            path, digest=digest, fallback=fallback or self.fallback, on_progress=tell
        )
