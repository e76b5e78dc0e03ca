"""The pure parts of a transfer: waiting, connections, limits, and what a journal says."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from qm.store.durable import StoreFull
from qm.store.pull.partial import parse_journal, try_hold
from qm.store.pull.retry import LONGEST_S, backoff_s, retry_after_s
from qm.store.pull.throttle import Throttle
from qm.store.pull.work import Tuner
from qm.store.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = f"sha256:{'a' * 64}"
SIZE = 100


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, 60.0),
        ({"Retry-After": "Thu, 01 Jan 2020 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"RateLimit": '"api";r=0;t=42'}, 42.0),
        ({"RateLimit": '"api";r=5;t=42'}, None),
        ({}, None),
    ],
)
def test_when_a_server_wants_to_see_us_again(headers: dict[str, str], seconds: float) -> None:
    """In seconds, as a date, or by its spent limit."""
    assert retry_after_s(headers, NOW) == seconds


def test_waiting_doubles_up_to_a_limit() -> None:
    """And is spread."""
    waits = [backoff_s(failures, 0.999) for failures in range(1, 30)]
    assert waits == sorted(waits)
    assert waits[0] < 0.3
    assert waits[-1] <= LONGEST_S
    assert backoff_s(3, 0.0) < backoff_s(3, 0.9)


def test_connections_are_added_while_they_help() -> None:
    """Each brings a tenth, or was the last."""
    tuner = Tuner(most=8, allowed=2)
    total = 0
    for second, rate in enumerate([0, 100, 150, 200, 205, 400, 400]):
        total += rate
        tuner.tick(float(second), total)
    assert tuner.allowed == 5
    tuner.refused()
    tuner.tick(100.0, 10**9)
    assert tuner.allowed == 4


def test_a_throttle_lends_and_waits() -> None:
    """Over all who share it."""
    now = [10.0]
    throttle = Throttle(100.0, clock=lambda: now[0])
    assert throttle.delay_s(50) == pytest.approx(0.5)
    assert throttle.delay_s(50) == pytest.approx(1.0)
    now[0] = 20.0
    assert throttle.delay_s(50) == pytest.approx(0.5)
    assert Throttle(None).delay_s(10**9) == 0.0


def journal(*lines: object, boot: str = "b") -> bytes:
    head = {"size": SIZE, "boot": boot, "etag": '"e"'}
    return b"".join(json.dumps(line).encode() + b"\n" for line in (head, *lines))


def test_after_a_kill_all_that_was_noted_counts() -> None:
    """The kernel still has it."""
    noted = parse_journal(journal({"have": [0, 30]}, {"have": [50, 60]}), SIZE, "b")
    assert noted is not None
    assert (list(noted.have), noted.etag) == ([(0, 30), (50, 60)], '"e"')


def test_after_a_power_cut_only_what_was_synced_counts() -> None:
    """Known by the boot, which is another one."""
    lines = ({"have": [0, 30]}, {"synced": [[0, 30]]}, {"have": [30, 60]})
    noted = parse_journal(journal(*lines), SIZE, "another")
    assert noted is not None
    assert list(noted.have) == [(0, 30)]
    unknown = parse_journal(journal(*lines, boot=""), SIZE, "")
    assert unknown is not None
    assert list(unknown.have) == [(0, 30)]


def test_lost_bytes_and_the_digests_behind_them_do_not_count() -> None:
    noted = parse_journal(
        journal(
            {"have": [0, 90]},
            {"beginning": 30, "sha256": "x"},
            {"beginning": 60, "sha256": "y"},
            {"lost": [30, 60]},
        ),
        SIZE,
        "b",
    )
    assert noted is not None
    assert (list(noted.have), noted.beginnings) == ([(0, 30), (60, 90)], {30: "x"})


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 50, b"[]\n", b'{"size": 99}\n', b"{", journal()[:20]]
)
def test_a_journal_of_no_use_is_none(data: bytes) -> None:
    """Torn, empty, or of a file of another size."""
    assert parse_journal(data, SIZE, "b") is None


def test_a_journal_torn_anywhere_never_says_too_much() -> None:
    """Only whole lines count."""
    data = journal({"have": [0, 30]}, {"have": [30, 60]})
    for length in range(len(data)):
        noted = parse_journal(data[:length], SIZE, "b")
        assert noted is None or list(noted.have) in ([], [(0, 30)], [(0, 60)])


def test_a_partial_is_held_by_one(store: Store) -> None:
    """Until it lets go; what was noted is there for the next."""
    with try_hold(store.layout, DIGEST, SIZE) as first:
        assert first is not None
        with try_hold(store.layout, DIGEST, SIZE) as second:
            assert second is None
        first.note_written(0, 40)
    with try_hold(store.layout, DIGEST, SIZE) as third:
        assert third is not None
        assert third.noted.have.total == 40


def test_a_torn_line_is_closed_before_the_next_is_written(store: Store) -> None:
    """Else both would be lost."""
    with try_hold(store.layout, DIGEST, SIZE) as partial:
        assert partial is not None
        path = partial.data_path.with_name("journal")
        with path.open("ab") as file:
            file.write(b'{"have": [0')
    with try_hold(store.layout, DIGEST, SIZE) as partial:
        assert partial is not None
        partial.note_written(20, 30)
    with try_hold(store.layout, DIGEST, SIZE) as partial:
        assert partial is not None
        assert list(partial.noted.have) == [(20, 30)]


def test_room_is_asked_for_before_the_first_byte(store: Store) -> None:
    """The error says how much is missing, and the disk is not filled to find out."""
    size_bytes = 1 << 50
    with try_hold(store.layout, DIGEST, size_bytes) as partial:
        assert partial is not None
        with pytest.raises(StoreFull, match=f"{size_bytes} bytes needed"):
            partial.reserve()
        assert partial.data_path.stat().st_size == 0
