"""A disk that fails or is full at any moment of a pull, and bytes that change on it."""

from __future__ import annotations

import errno

import pytest

from tests.crash.conftest import SIZE, SOAK, Puller, until

STRIDE = 1 if SOAK else 6
ERRORS = {errno.ENOSPC: "store_full", errno.EDQUOT: "store_full", errno.EIO: "store_failed"}


@pytest.mark.slow
@pytest.mark.parametrize("error", sorted(ERRORS))
def test_a_failing_call_is_told_and_the_next_pull_succeeds(puller: Puller, error: int) -> None:
    """Whichever write, fsync, link or rename it is."""
    counted = puller.fresh()
    assert puller.pull(counted, errno=errno.EIO, die_before=10**6) == "done"
    ends = set()
    for step in range(0, puller.steps(counted), STRIDE):
        store = puller.fresh()
        end = puller.pull(store, die_before=step, errno=error)
        ends.add(end)
        told = store.layout.root.with_name("error")
        if told.exists():
            assert "free some with" in told.read_text() or end != "store_full"
        puller.check(store, complete=False)
        assert puller.pull(store) == "done"
        puller.check(store, complete=True)
    assert ends - {"done"} == {ERRORS[error]}


@pytest.mark.slow
def test_bits_that_flip_in_a_partial_are_found(puller: Puller) -> None:
    """By the digests of beginnings, or by the digest of the whole: only right bytes are kept."""
    for at in range(5, SIZE, SIZE // (40 if SOAK else 2)):
        store = puller.fresh()
        puller.hub.fault("slow", path="org/tiny/*", side="cdn", times=0, rate=12 << 20)
        assert puller.pull(store, die_after_s=0.4) == "killed"
        puller.hub.faults.clear()
        noted = puller.noted_bytes(store)
        for path in store.layout.partial.glob("pull-*/data"):
            with path.open("r+b") as file:
                file.seek(at)
                byte = file.read(1)
                file.seek(at)
                file.write(bytes([byte[0] ^ 1]))
        assert puller.pull(store) == "done"
        assert noted >= 0
        puller.check(store, complete=True)


@pytest.mark.slow
@pytest.mark.parametrize("leader_dies", [False, True])
def test_two_pulls_of_one_blob_are_one_transfer(
    puller: Puller, other_puller: Puller, leader_dies: bool
) -> None:
    """The second watches; when the first is killed it takes over."""
    store = puller.fresh()
    puller.hub.fault("slow", path="org/tiny/*", side="cdn", times=0, rate=6 << 20)
    puller.begin(store, **({"die_after_s": 0.8} if leader_dies else {}))
    until(lambda: puller.hub.sent_bytes() > 1 << 19)
    other_puller.begin(store)
    assert puller.end() == ("killed" if leader_dies else "done")
    assert other_puller.end() == "done"
    puller.check(store, complete=True)
    assert puller.hub.sent_bytes() <= SIZE + leader_dies * (6 << 20)
