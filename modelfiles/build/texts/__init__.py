"""The texts that come with qm: what models are calibrated on, and what they are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from qm.store.hashing import digest_text
from qm.store.store import put_leased

if TYPE_CHECKING:
    from qm.store.leases import Lease
    from qm.store.store import Store


@dataclass(frozen=True)
class BundledText:
    """One text file of this package."""

    path: Path

    @cached_property
    def data(self) -> bytes:
        return self.path.read_bytes()

    @cached_property
    def digest(self) -> str:
        return digest_text(sha256(self.data).hexdigest())

    def put(self, store: Store, lease: Lease) -> None:
        """Makes it a blob of the store, as inputs of steps are."""
        put_leased(store, lease, self.data)


CALIBRATION = BundledText(Path(__file__).with_name("calibration.txt"))
EVALUATION = BundledText(Path(__file__).with_name("evaluation.txt"))
BUNDLED = (CALIBRATION, EVALUATION)
