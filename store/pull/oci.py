"""Models on OCI registries: manifest and blobs come in, by the distribution protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from ..gguf import read_header
from ..image import MODEL_TYPE, Descriptor, Manifest
from ..leases import hold
from ..name import Name
from ..store import Store
from .download import Limits, Wanted, download
from .present import is_present
from .registry import Endpoint, Session

Progress: TypeAlias = Callable[[dict[str, object]], None]
"""Called with what `/api/pull` streams: status, digest, total, completed."""

_SHOWN_DIGITS = 12


def pull_image(
    store: Store,
    endpoint: Endpoint,
    name: Name,
    on_progress: Progress,
    *,
    limits: Limits | None = None,
) -> Manifest:
    """The model, registered under its name with the very manifest that the registry has.

    Raises NotOnRegistry, RegistryRefused, RegistryUnreachable, LoginNeeded, ManifestInvalid,
    GgufInvalid, and what `download` raises.
    """
    on_progress({"status": "pulling manifest"})
    with Session.about(endpoint, name, "pull") as session:
        data = session.manifest(name.tag)
        manifest = Manifest.parse(data)
        if is_present(store, name, manifest):
            return manifest
        with hold(store.layout, manifest.blobs()):
            fetch = _Fetch(store, session, on_progress, limits or Limits())
            for descriptor in manifest.descriptors():
                fetch.blob(descriptor)
            on_progress({"status": "verifying sha256 digest"})  # done while the bytes came
            for layer in manifest.layers_of(MODEL_TYPE):
                read_header(store.blobs.path(layer.digest))
            on_progress({"status": "writing manifest"})
            store.manifests.write(name, manifest, data=data)
    return manifest


@dataclass(frozen=True, slots=True)
class _Fetch:
    """Brings blobs of one repository; the caller's lease keeps them."""

    store: Store
    session: Session
    on_progress: Progress
    limits: Limits = field(default_factory=Limits)

    def blob(self, descriptor: Descriptor) -> None:
        digest, size_bytes = descriptor.digest, descriptor.size_bytes
        if not self.store.blobs.has(digest):
            if size_bytes == 0:
                with self.store.blobs.writer(digest=digest, size_bytes=0) as writer:
                    writer.commit()
            else:
                self._transfer(descriptor)
        self._tell(descriptor, size_bytes)

    def _transfer(self, descriptor: Descriptor) -> None:
        label = f"{self.session.repository}@{descriptor.digest}"
        wanted = Wanted(
            label,
            descriptor.digest,
            descriptor.size_bytes,
            lambda: self.session.locate(descriptor.digest),
            self.session.source(),
        )
        policy = self.session.endpoint.policy

        def tell(done: int) -> None:
            self._tell(descriptor, done)

        download(self.store.layout, wanted, policy, tell, self.limits)

    def _tell(self, descriptor: Descriptor, completed: int) -> None:
        digest = descriptor.digest
        self.on_progress(
            {
                "status": f"pulling {digest.removeprefix('sha256:')[:_SHOWN_DIGITS]}",
                "digest": digest,
                "total": descriptor.size_bytes,
                "completed": completed,
            }
        )
