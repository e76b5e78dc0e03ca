"""What a pull takes of a repository, and one digest that stands for all of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from ..hashing import digest_text
from .choose import Chosen, RepoFile, choose
from .reference import Reference

CHOICE = "qm.files"  # a manifest's annotation: digest of the list of files that it was made from
LICENSES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
GENERATION = "generation_config.json"
EXTRAS = frozenset({"template", "system", "params", GENERATION, *LICENSES})
"""The files of a repository's root that come along: template, parameters, licence."""
MAX_EXTRA_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Choice:
    """The model's files, and the texts beside them that are no longer than such texts are."""

    chosen: Chosen
    beside: tuple[RepoFile, ...]

    @property
    def files(self) -> list[RepoFile]:
        """Weights in order, then the projector."""
        projector = [self.chosen.projector] if self.chosen.projector else []
        return [*self.chosen.variant.parts, *projector]

    @property
    def digest(self) -> str:
        """Of what was chosen, wherever else the repository's commits differ."""
        files = [*self.files, *self.beside]
        lines = sorted(f"{file.digest or file.git_oid} {file.path}" for file in files)
        return digest_text(hashlib.sha256("\n".join(lines).encode()).hexdigest())


def make_choice(
    files: Iterable[RepoFile], reference: Reference, memory_bytes: int | None = None
) -> Choice:
    """Raises what `choose` raises."""
    listed = list(files)
    extras = (file for file in listed if file.path in EXTRAS)
    beside = tuple(file for file in extras if file.size_bytes <= MAX_EXTRA_BYTES)
    return Choice(choose(listed, reference, memory_bytes), beside)
