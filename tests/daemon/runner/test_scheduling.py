"""Slots, prefixes and batches: the engine's decisions, without a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from qm.daemon.runner.batching import FIRST_CHUNK, GRAIN, SMALLEST_CHUNK, Pace, shares
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


def test_the_slot_with_the_longest_shared_beginning_wins() -> None:
    """Then an empty one, then the longest unused."""
    slots = Slots(3)
    first = slots.take([1, 2, 3])
    second = slots.take([9, 9])
    assert first is not None
    assert second is not None
    slots.give_back(first[0], [1, 2, 3, 4])
    slots.give_back(second[0], [9, 9])
    again = slots.take([1, 2, 3, 5])
    assert again == (first[0], 3)
    fresh = slots.take([7, 7])
    assert fresh is not None
    assert fresh[0].cached == []
    assert slots.take([7]) == (second[0], 0)
    assert slots.take([7]) is None


def test_a_few_shared_tokens_do_not_cost_another_conversation_its_cache() -> None:
    """Every chat begins alike; an empty slot is taken then, or the longest unused."""
    slots = Slots(2)
    first = slots.take([1])
    assert first is not None
    slots.give_back(first[0], [1, 2, 3, 4, 5, 6, 7, 8])
    other = slots.take([1, 9, 9, 9, 9, 9, 9, 9])
    assert other is not None
    assert other[0] is not first[0]
    assert slots.take([1, 2, 3, 4, 5, 6, 7, 8, 9]) == (first[0], 8)


def test_eviction_empties_the_longest_unused_idle_slot() -> None:
    """Busy slots are left alone."""
    slots = Slots(3)
    taken = [slots.take([n])[0] for n in range(3)]  # type: ignore[index]  # three are free
    slots.give_back(taken[1], [1, 1])
    slots.give_back(taken[0], [2, 2, 2])
    assert slots.cached_cells() == 5
    assert slots.evict() is taken[1]
    assert slots.evict() is taken[0]
    assert slots.evict() is None
    assert slots.cached_cells() == 0


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
    assert pace.budget(generating=1, n_batch=512) == FIRST_CHUNK
    pace.learn(0.32, prompt_tokens=64, generating=0)  # 5 ms a token
    busy, alone = pace.budget(1, 512), pace.budget(0, 512)
    assert SMALLEST_CHUNK <= busy < alone <= 512
    assert alone % GRAIN == 0
    fast = Pace(token_s=1e-5)
    assert fast.budget(4, 512) == 508
    slow = Pace(token_s=2.0)
    assert slow.budget(1, 512) == SMALLEST_CHUNK


def test_the_cost_of_other_answers_does_not_shrink_prompts_to_nothing() -> None:
    """A slow step of eight answers says little about the price of a prompt token."""
    pace = Pace()
    for _ in range(20):
        pace.learn(0.1, prompt_tokens=0, generating=8)
        pace.learn(0.1 + 32 * 0.002, prompt_tokens=32, generating=8)
    assert pace.budget(8, 512) >= GRAIN
