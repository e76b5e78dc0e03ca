"""Which blob a step made, so that it is never done twice.

The record lies beside the blobs and keeps none of them: garbage collection may take an
intermediate, then its step is done anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from qm.store.durable import replace_file
from qm.store.layout import InvalidDigest, Layout, parse_digest
from qm.store.locks import publishing

from .plan import KEY_PREFIX, Step


@dataclass(frozen=True, slots=True)
class StepCache:
    """The records of one store."""

    layout: Layout

    def find(self, step: Step) -> str | None:
        """The digest of what the step made; whether the blob is still there is another question."""
        try:
            document = json.loads(self._path(step).read_bytes())
            return parse_digest(document["output"])
        except (OSError, ValueError, KeyError, TypeError, InvalidDigest):
            return None  # a damaged record costs no more than doing the step again

    def add(self, step: Step, output: str) -> None:
        data = json.dumps({"kind": step.kind, "tool": step.tool, "output": output}).encode()
        with publishing(self.layout):
            replace_file(self._path(step), data, temporary_in=self.layout.partial)

    def _path(self, step: Step) -> Path:
        return self.layout.steps / step.key.removeprefix(KEY_PREFIX)
