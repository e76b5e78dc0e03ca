"""Steps are done once; a record whose blob is gone, or that is damaged, costs one more time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qm.modelfiles.build.plan import Step, StepKind
from qm.modelfiles.build.step_cache import StepCache
from qm.modelfiles.build.workshop import Performer, Workshop
from qm.store.leases import hold

if TYPE_CHECKING:
    from qm.store.store import Store

ONE = Step(StepKind.CONVERT, "tool/1", {"a": "sha256:a"}, {})
TWO = Step(StepKind.QUANTIZE, "tool/1", {"model": ONE.key}, {"type": "Q8_0"})


class Bench:
    """Performs steps and counts them; each makes a blob of its own key."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.performed: list[Step] = []
        self.said: list[object] = []

    def perform(self, *steps: Step, fresh: bool = False) -> list[str]:
        """The outputs."""
        performers: dict[str, Performer] = dict.fromkeys(StepKind, self._make)
        with hold(self.store.layout) as lease:
            workshop = Workshop(
                self.store, lease, lambda step: self.said.append(step["status"]), performers, fresh
            )
            return [workshop.perform(step) for step in steps]

    def _make(self, workshop: Workshop, step: Step) -> str:
        self.performed.append(step)
        inputs = [workshop.digest(each) for each in step.inputs.values()]
        return workshop.store.blobs.put(repr((step.key, inputs)).encode())


@pytest.fixture
def bench(store: Store) -> Bench:
    return Bench(store)


def test_a_step_is_done_once(bench: Bench) -> None:
    """Again means from the cache, and it is said."""
    first = bench.perform(ONE, TWO)
    assert bench.perform(ONE, TWO) == first
    assert bench.performed == [ONE, TWO]
    assert bench.said == [f"using cached convert {first[0]}", f"using cached quantize {first[1]}"]


def test_a_killed_build_goes_on_where_it_ended(bench: Bench) -> None:
    """What was finished is published by then."""
    bench.perform(ONE)
    bench.perform(ONE, TWO)
    assert bench.performed == [ONE, TWO]


def test_fresh_does_it_anew(bench: Bench) -> None:
    """As QM_NO_BUILD_CACHE asks."""
    first = bench.perform(ONE)
    assert bench.perform(ONE, fresh=True) == first
    assert bench.performed == [ONE, ONE]


def test_an_intermediate_may_be_collected(bench: Bench) -> None:
    """Only the step whose blob is gone is done again."""
    made = bench.perform(ONE, TWO)
    bench.store.layout.blob(made[0]).unlink()
    assert bench.perform(ONE, TWO) == made
    assert bench.performed == [ONE, TWO, ONE]


@pytest.mark.parametrize("data", [b"", b"[]", b'{"output": "../x"}', b'{"output": 1}', b"\xff"])
def test_a_damaged_record_is_no_record(bench: Bench, data: bytes) -> None:
    """It is written anew."""
    bench.perform(ONE)
    path = next(bench.store.layout.steps.iterdir())
    path.write_bytes(data)
    assert StepCache(bench.store.layout).find(ONE) is None
    bench.perform(ONE)
    assert StepCache(bench.store.layout).find(ONE) is not None
