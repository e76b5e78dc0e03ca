"""The likeliest token, told from logits."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import pytest
from qm.daemon.runner.likeliest import LISTED, PATIENCE, UNKNOWN, Likeliest

SIZE = 500
LIMIT_S = 60.0


def pointer(*values: float) -> Any:  # Any: ctypes knows no better
    floats = (ctypes.c_float * SIZE)(*values, *[-1.0] * (SIZE - len(values)))
    return ctypes.cast(floats, ctypes.POINTER(ctypes.c_float))


@pytest.fixture(scope="module")
def likeliest() -> Likeliest:
    """One that has waited for numpy."""
    found = Likeliest(SIZE)
    found.fetch()
    deadline = time.monotonic() + LIMIT_S
    while found.of(pointer(1.0)) == UNKNOWN:
        assert time.monotonic() < deadline, "it never tells"
    return found


def test_short_answers_do_without() -> None:
    """Nothing is fetched for them, not in a rest either."""
    found = Likeliest(SIZE)
    assert {found.of(pointer(1.0)) for _ in range(PATIENCE - 1)} == {UNKNOWN}
    assert not found.due
    assert found.of(pointer(1.0)) == UNKNOWN
    assert found.due


def test_without_a_rest_it_is_fetched_once_that_pays() -> None:
    """Lists of so many candidates have taken as long."""
    found = Likeliest(SIZE)
    logits, deadline = pointer(1.0), time.monotonic() + LIMIT_S
    assert {found.of(logits) for _ in range(LISTED // SIZE)} == {UNKNOWN}
    assert not found.due
    while found.of(logits) == UNKNOWN:
        assert time.monotonic() < deadline, "it never tells"


@pytest.mark.parametrize(
    ("values", "token"),
    [((0.0, 2.0, 1.0), 1), ((3.0, 3.0), 0), ((-2.0, -2.0), 2), ((float("-inf"), 0.5), 1)],
)
def test_it_is_the_first_of_the_highest(
    likeliest: Likeliest, values: tuple[float, ...], token: int
) -> None:
    assert likeliest.of(pointer(*values)) == token


def test_it_reads_what_is_there_now(likeliest: Likeliest) -> None:
    """The same memory has other logits after every step."""
    logits = pointer(5.0)
    assert likeliest.of(logits) == 0
    logits[7] = 6.0
    assert likeliest.of(logits) == 7


def test_many_places_are_not_remembered_forever(likeliest: Likeliest) -> None:
    for at in range(1500):
        assert likeliest.of(pointer(*[0.0] * (at % SIZE), 1.0)) == at % SIZE
