"""Slots, prefixes and batches: the engine's decisions, without a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from qm.daemon.runner.batching import (
    FINE_GRAIN,
    FIRST_CHUNK,
    GRAIN,
    LONGEST_TILE_S,
    SMALLEST_CHUNK,
    Pace,
    shares,
)
from qm.daemon.runner.cells import between, count, grown, shared
from qm.daemon.runner.prefix import common_prefix, reusable_prefix
from qm.daemon.runner.slots import Slots

tokens = st.lists(st.integers(0, 2), max_size=200)


@given(tokens, tokens)
def test_common_prefix_is_the_longest(first: list[int], second: list[int]) -> None:
    """Equal up to there, different right after."""
    length = common_prefix(first, second)
    assert first[:length] == second[:length]
    assert length in (len(first), len(second)) or first[length] != second[length]


def test_the_last_token_is_always_evaluated() -> None:
    """Its logits are needed, even when all of the prompt is cached."""
    assert reusable_prefix([1, 2, 3, 4], [1, 2, 3]) == 2


def test_a_spare_slot_is_an_empty_one_or_the_longest_unused() -> None:
    """Those that are busy, or named, are left alone."""
    slots = Slots(3)
    first, second, third = slots.all
    for slot in (first, second):
        slots.take(slot)
    slots.give_back(second, [9, 9])
    slots.give_back(first, [1, 2, 3, 4])
    assert slots.spare() is third
    slots.take(third)
    assert slots.spare() is second
    assert slots.spare((second,)) is first
    slots.take(first)
    assert slots.spare((second,)) is None


def test_eviction_empties_the_longest_unused_idle_slot() -> None:
    """Busy slots are left alone."""
    slots = Slots(3)
    for number, slot in enumerate(slots.all):
        slots.take(slot)
        slot.grow(number + 1)
    slots.give_back(slots.all[1], [1, 1])
    slots.give_back(slots.all[0], [2])
    assert slots.cells_fit(6)
    assert not slots.cells_fit(5)
    assert slots.evict() is slots.all[1]
    assert slots.evict() is slots.all[0]
    assert slots.evict() is None
    assert slots.cells_fit(3)


def test_one_that_always_had_the_cache_for_itself_is_known() -> None:
    """Until another is taken, even before that has any cell; again once the cache was empty."""
    slots = Slots(2)
    first, second = slots.all
    slots.take(first)
    first.grow(3)
    assert slots.sole is first
    slots.give_back(first, [1, 2, 3])
    slots.take(first)
    assert slots.sole is first
    slots.take(second)
    assert slots.sole is None
    slots.give_back(second, [])
    slots.give_back(first, [1, 2, 3])
    slots.take(first)
    assert slots.sole is None
    slots.empty(first)
    slots.take(first)
    assert slots.sole is first


def test_shared_cells_count_once() -> None:
    """Two that took over the beginning of a third, at different lengths."""
    first = grown((), 1, 100)
    second = grown(between(first, 0, 60), 2, 80)
    third = grown(between(second, 0, 70), 3, 75)
    assert count([first, second, third]) == 100 + 20 + 5
    assert count([second, third]) == 60 + 20 + 5
    assert count([third]) == 75
    assert shared(first, third)
    assert not shared(between(first, 60, 100), third)
    assert shared(between(second, 60, 80), third)


@given(st.lists(st.integers(0, 500), max_size=8), st.integers(0, 600))
def test_shares_use_the_whole_budget_and_no_more(remaining: list[int], total: int) -> None:
    """Nobody gets more than it has left, and nothing is wasted while somebody waits."""
    given_ = shares(remaining, total)
    assert all(0 <= part <= left for part, left in zip(given_, remaining, strict=True))
    assert sum(given_) == min(total, sum(remaining))


def test_a_short_prompt_gets_through_beside_a_long_one() -> None:
    """Arriving later is no reason to wait for the end of a long prompt."""
    assert shares([1800, 20], 64) == [44, 20]


def test_prompts_take_small_bites_while_answers_are_under_way() -> None:
    """The measured speed sets the size, within bounds; unmeasured, a modest first guess."""
    pace = Pace()
    assert pace.budget(1, 512, 1536) == FIRST_CHUNK
    pace.learn(0.16, prompt_tokens=64, generating=0)  # 2.5 ms a token
    busy, alone = pace.budget(1, 512, 1536), pace.budget(0, 512, 1536)
    assert SMALLEST_CHUNK <= busy < alone <= 512
    assert alone % GRAIN == 0
    fast = Pace(token_s=1e-5)
    assert fast.budget(4, 512, 1524) == 508
    slow = Pace(token_s=2.0)
    assert slow.budget(1, 512, 1536) == SMALLEST_CHUNK


def test_the_cost_of_other_answers_does_not_shrink_prompts_to_nothing() -> None:
    """A slow step of eight answers says little about the price of a prompt token."""
    pace = Pace()
    for _ in range(20):
        pace.learn(0.1, prompt_tokens=0, generating=8)
        pace.learn(0.1 + 32 * 0.002, prompt_tokens=32, generating=8)
    assert pace.budget(8, 512, 1536) >= GRAIN


def test_a_part_of_a_tile_becomes_a_whole_one() -> None:
    """Small bites take longer for each token, and must not make the next ones smaller still."""
    assert Pace(token_s=0.008).budget(0, 512, 1536, contended=True) == GRAIN
    assert Pace(token_s=0.03).budget(1, 512, 1536) < GRAIN
    pace = Pace(token_s=0.008)
    for _ in range(20):
        pace.learn(18 * 0.03, prompt_tokens=18, generating=0)
    assert pace.budget(0, 512, 1536, contended=True) == GRAIN


def test_no_tile_is_begun_for_a_few_tokens_beside_answers() -> None:
    """Attention takes as long for one row of a tile as for all: answers' rows are counted."""
    for generating in (1, 8, 63, 64, 70):
        piece = Pace(token_s=0.001).budget(generating, 512, 1536)
        assert FINE_GRAIN <= piece < 512
        assert (piece + generating) % GRAIN == 0
    assert Pace(token_s=0.008).budget(1, 512, 1536) == GRAIN - 1


def test_where_parts_of_tiles_cost_no_more_answers_wait_for_less() -> None:
    """The pause that answers are promised decides, not the tile; but for very small pieces."""
    assert Pace(token_s=0.003, fine=True).budget(1, 512, 1536) == 48
    assert Pace(token_s=0.008, fine=True).budget(1, 512, 1536) == FINE_GRAIN
    assert (Pace(token_s=0.001, fine=True).budget(3, 512, 1536) + 3) % GRAIN == 0
    pace = Pace(token_s=0.003, fine=True)
    for _ in range(20):
        pace.learn(48 * 0.006, prompt_tokens=48, generating=1)
    assert pace.budget(1, 512, 1536) == FINE_GRAIN


def test_a_prompt_ends_with_no_small_piece() -> None:
    """Few tokens behind a long prompt take as long as a whole tile: they are spread over others."""
    pieces = _pieces(1800, [0.008] * 30)
    assert min(pieces) >= GRAIN
    assert max(pieces) <= GRAIN + 4
    assert Pace(token_s=0.008).budget(0, 512, 20) == 20


paces = st.one_of(st.none(), st.floats(1e-5, 1 / GRAIN))


@given(st.integers(1, 3000), st.lists(paces, min_size=60, max_size=60))
def test_pieces_leave_the_same_bits_at_every_pace(
    waiting: int, token_s: list[float | None]
) -> None:
    """Only at its end a prompt has tokens beyond whole fours, and never fewer than a tile."""
    *others, last = _pieces(waiting, token_s)
    assert all(piece >= GRAIN and piece % 4 == 0 for piece in others)
    assert last >= min(GRAIN, waiting)


slow_paces = st.floats(1.01 * LONGEST_TILE_S / GRAIN, 1.0)


@given(st.integers(1, 200), st.lists(slow_paces, min_size=60, max_size=60))
def test_pieces_of_slow_models_leave_the_same_bits_too(
    waiting: int, token_s: list[float | None]
) -> None:
    """None is a tile, and none but the last has tokens beyond whole fours."""
    *others, last = _pieces(waiting, token_s)
    assert all(piece < GRAIN and piece % 4 == 0 for piece in others)
    assert last < GRAIN


def _pieces(waiting: int, token_s: list[float | None]) -> list[int]:
    pieces = []
    for one in token_s:
        piece = Pace(token_s=one).budget(0, 512, waiting, contended=True)
        assert 0 < piece <= 512
        piece = min(piece, waiting)
        pieces.append(piece)
        waiting -= piece
        if not waiting:
            return pieces
    raise AssertionError(f"{waiting} tokens are left over")


def test_a_few_tokens_tell_nothing_about_many() -> None:
    """After prompts that were cached but for their ends, long ones go as fast as before."""
    pace = Pace()
    pace.learn(0.4, 100, 0)
    before = pace.budget(1, 512, 1536)
    for _ in range(20):
        pace.learn(0.05, 1, 1)
    assert pace.budget(1, 512, 1536) == before
