"""Performs the steps of a plan, each once: what was made before is taken from the cache.

A step's output is published before the next one starts, so a build that was killed goes on where
its last finished step ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TypeAlias

from qm.store.leases import Lease
from qm.store.store import Store

from ..quality import Quality, parse_quality
from .ahead import Ahead
from .plan import KEY_PREFIX, Step, StepKind
from .register import Progress
from .step_cache import StepCache

Performer: TypeAlias = Callable[["Workshop", Step], str]
"""Does one step and gives the digest of the blob that it published."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step and what came out; `cached` if nothing had to be done for it."""

    step: Step
    output: str
    cached: bool = False


@dataclass(slots=True)
class Workshop:
    """Where steps are performed; `lease` keeps what they make. `fresh` ignores the cache."""

    store: Store
    lease: Lease
    on_progress: Progress
    performers: Mapping[str, Performer]
    fresh: bool = False
    done: list[Done] = field(default_factory=list)
    following: Step | None = None  # the one after that which is performed
    ahead: Ahead | None = None  # the following step, where it is under way already

    def perform_all(self, steps: Sequence[Step]) -> list[str]:
        """The digests of what the steps make, in order; one may begin while its input is made."""
        outputs = []
        for step, self.following in zip_longest(steps, steps[1:]):
            outputs.append(self.perform(step))
        return outputs

    def perform(self, step: Step) -> str:
        """The digest of the step's output, made now or before."""
        cached = None if self.fresh else self._cached(step)
        output = cached or self.performers[step.kind](self, step)
        self.lease.add(output)
        if cached is None:
            StepCache(self.store.layout).add(step, output)
        else:
            self.on_progress({"status": f"using cached {step.kind} {output}"})
        self.done.append(Done(step, output, cached is not None))
        return output

    def leading_to(self, keys: Iterable[str]) -> list[Done]:
        """The steps without which these would not be, in the order in which they were done."""
        wanted = set(keys)
        for each in reversed(self.done):
            if each.step.key in wanted:
                wanted.update(each.step.inputs.values())
        return [each for each in self.done if each.step.key in wanted]

    def is_due(self, step: Step) -> bool:
        """Whether it has to be done at all."""
        return self.fresh or self._cached(step) is None

    def digest(self, reference: str) -> str:
        """Of an input: it is a digest, or the key of a step that is done."""
        if not reference.startswith(KEY_PREFIX):
            return reference
        return next(each.output for each in self.done if each.step.key == reference)

    def path(self, reference: str) -> Path:
        """The file of an input. Raises BlobMissing or BlobChanged."""
        digest = self.digest(reference)
        self.lease.add(digest)
        return self.store.blobs.path(digest)

    def measured(self, steps: Iterable[Step]) -> Quality | None:
        """What an evaluation among these steps, which are done, has shown."""
        for step in steps:
            if step.kind == StepKind.EVALUATE:
                return parse_quality(json.loads(self.path(step.key).read_bytes()))
        return None

    def count(self, status: str, unit: str = "") -> Callable[[int, int], None]:
        """A callback that tells how far the step got, in bytes or in `unit`."""
        counted = {"unit": unit} if unit else {}

        def tell(completed: int, total: int) -> None:
            self.on_progress({"status": status, "completed": completed, "total": total} | counted)

        tell(0, 0)
        return tell

    def _cached(self, step: Step) -> str | None:
        output = StepCache(self.store.layout).find(step)
        if output is None:
            return None
        self.lease.add(output)  # first the lease, then the look
        return output if self.store.blobs.has(output) else None
