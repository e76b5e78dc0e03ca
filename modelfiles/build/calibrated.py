"""The text that a model's importance matrix was computed over, where it is not qm's own."""

from __future__ import annotations

from qm.store.blobs import BlobMissing
from qm.store.name import Name
from qm.store.store import Store

from ..config import Config
from .plan import StepKind
from .rebuild import InputsMissing
from .texts import BUNDLED


def own_calibration(store: Store, name: Name) -> tuple[str, bytes]:
    """Its digest and bytes, both empty for a model without. Raises ModelNotFound, InputsMissing."""
    stored = store.manifests.read(name)
    config = Config.parse(store.blobs.path(stored.manifest.config.digest).read_bytes())
    known = {text.digest for text in BUNDLED}
    for step in config.provenance.steps if config.provenance else ():
        digest = step.inputs.get("text", "") if step.kind == StepKind.IMATRIX else ""
        if digest and digest not in known:
            try:
                return digest, store.blobs.path(digest).read_bytes()
            except BlobMissing:
                raise InputsMissing(
                    f"the text that {name.short} was calibrated on is not here any more"
                ) from None
    return "", b""
