"""Intervals against a set of numbers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from qm.store.pull.spans import Spans

SIZE = 40
spans = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove"]), spans), max_size=12)


@given(steps)
def test_spans_hold_what_a_set_holds(steps: list[tuple[str, tuple[int, int]]]) -> None:
    """Whatever is added and removed in whatever order."""
    ours, theirs = Spans(), set[int]()
    for step, (start, stop) in steps:
        getattr(ours, step)(start, stop)
        theirs = (
            theirs | set(range(start, stop)) if step == "add" else theirs - {*range(start, stop)}
        )
    assert {at for at in range(SIZE) if at in ours} == theirs
    assert ours.total == len(theirs)
    assert ours.front == next((at for at in range(SIZE + 1) if at not in theirs), 0)
    listed = list(ours)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(listed))


@given(steps)
def test_the_first_gap_is_the_first_that_is_missing(
    steps: list[tuple[str, tuple[int, int]]],
) -> None:
    """From its first byte to where something is again."""
    ours = Spans()
    for step, (start, stop) in steps:
        getattr(ours, step)(start, stop)
    gap = ours.first_gap(SIZE)
    missing = [at for at in range(SIZE) if at not in ours]
    if not missing:
        assert gap is None
        return
    assert gap is not None
    assert gap[0] == missing[0]
    assert all(at in missing for at in range(*gap))
    assert gap[1] == SIZE or gap[1] in ours
