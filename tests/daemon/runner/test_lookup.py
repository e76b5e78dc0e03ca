"""Guesses from the text itself, and which of them are worth a try."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from qm.daemon.runner.lookup import WIDTH, Lookup
from qm.daemon.runner.payoff import FORGOTTEN_STEPS, StepCosts, allot

tokens = st.lists(st.integers(0, 3), max_size=60)


def read(text: list[int]) -> Lookup:
    lookup = Lookup()
    lookup.read(text)
    return lookup


def measured(*seconds: float) -> StepCosts:
    """Costs of steps with 1, 2, 3… tokens."""
    costs = StepCosts()
    for n_tokens, one in enumerate(seconds, 1):
        costs.learn(n_tokens, one)
    return costs


def test_what_followed_before_is_the_guess() -> None:
    """After 1 2 3 for the second time comes what came after the first."""
    lookup = read([1, 2, 3, 7, 8, 9, 1, 2, 3])
    assert lookup.found
    assert lookup.guess([1, 2, 3, 7, 8, 9, 1, 2, 3], 4) == [7, 8, 9, 1]


def test_nothing_is_guessed_where_nothing_repeats() -> None:
    """Two tokens alike are no reason yet."""
    text = [1, 2, 3, 4, 9, 2, 3]
    assert not read(text).found
    assert read(text).guess(text, 4) == []


def test_a_guess_runs_into_itself() -> None:
    """What has begun to repeat may go on to."""
    text = [5, 6, 5, 6, 5]
    assert read(text).guess(text, 5) == [6, 5, 6, 5, 6]


def test_images_are_never_guessed() -> None:
    """Their tokens have numbers below zero, and can't be evaluated as text."""
    text = [1, 2, 3, 7, -5, -6, 1, 2, 3]
    assert read(text).guess(text, 4) == [7]


@given(tokens, st.data())
def test_reading_in_pieces_is_reading_at_once(text: list[int], data: st.DataObject) -> None:
    """However a text arrives, its next guess is the same; it is what followed the same tokens."""
    whole, pieces = Lookup(), Lookup()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    for end in (*cuts, len(text)):
        pieces.read(text[:end])
    for end in range(len(text) + 1):
        whole.read(text[:end])
    assert whole.found == (find(text) >= 0)
    assert pieces.found == whole.found
    assert len(whole.guess(text, 3)) == (3 if whole.found else 0)


def find(text: list[int]) -> int:
    """Where the last tokens occurred before, or follow a guess that came true."""
    end = text[-WIDTH:]
    places = range(len(text) - WIDTH - 1, -1, -1)
    return next((at for at in places if len(end) == WIDTH and text[at : at + WIDTH] == end), -1)


def test_trust_follows_what_came() -> None:
    """It grows while guesses are right and falls when they aren't, though nobody tries them."""
    lookup, text = Lookup(), [1, 2, 3, 4, 5, 6, 7, 8] * 3
    for end in range(1, len(text) + 1):
        lookup.read(text[:end])
    assert lookup.trust > 0.9
    lookup.read([*text, 9, 1, 2, 3, 9, 1, 2, 3])
    assert lookup.trust < 0.85


def test_a_shifted_text_is_read_anew() -> None:
    """Positions of tokens that were dropped mean nothing."""
    lookup = read([1, 2, 3, 4, 1, 2, 3])
    lookup.forget()
    assert not lookup.found
    lookup.read([2, 3, 4, 2, 3, 4])
    assert lookup.guess([2, 3, 4, 2, 3, 4], 2) == [2, 3]


def test_cheap_guesses_are_tried() -> None:
    """Where four more tokens cost little, even doubtful guesses pay."""
    costs = measured(1.0, 1.02, 1.04, 1.06, 1.08)
    assert allot([0.6], [4], 1, costs) == [4]


def test_dear_guesses_must_be_likely() -> None:
    """On a CPU a batch of five takes three times as long: unlikely guesses would slow it down."""
    costs = measured(1.0, 1.65, 2.2, 2.9, 3.35)
    assert allot([0.5], [4], 1, costs) == [0]
    assert allot([0.98], [4], 1, costs) == [4]


def test_a_draft_that_takes_long_is_not_worth_it() -> None:
    """The time for making guesses counts too."""
    costs = measured(1.0, 1.1, 1.2, 1.3, 1.4)
    assert allot([0.9], [4], 1, costs, guess_s=1.0) == [0]
    assert allot([0.9], [4], 1, costs, guess_s=0.05) == [4]


def test_nothing_is_tried_before_anything_is_measured() -> None:
    """The first step tells what a token costs."""
    assert allot([0.99], [4], 1, StepCosts()) == [0]


def test_others_are_not_kept_waiting() -> None:
    """An answer without a guess has its next token at most a quarter later."""
    dear, cheap = measured(1.0, 1.6, 2.2, 2.8, 3.4, 4.0), measured(1.0, 1.0, 1.01, 1.02, 1.03, 1.04)
    assert allot([0.99, 0.0], [4, 0], 2, dear) == [0, 0]
    assert allot([0.99, 0.0], [4, 0], 2, cheap) == [4, 0]
    assert allot([0.99, 0.0], [4, 0], 2, measured(0.9, 1.0, 1.1, 1.2, 1.3, 1.4)) == [2, 0]


def test_what_was_measured_long_ago_is_tried_again() -> None:
    """A size that was slow once, beside other work, isn't given up for good."""
    costs = measured(1.0, 50.0)
    assert allot([0.9], [1], 1, costs) == [0]
    for _ in range(FORGOTTEN_STEPS):
        costs.learn(1, 1.0)
    assert allot([0.9], [1], 1, costs) == [1]


def test_many_answers_show_what_one_more_token_costs() -> None:
    """Where each of eight has made the step longer by half, nobody tries whether a ninth would."""
    costs = measured(1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
    assert math.isclose(costs.of(10), 4.5 + 2 * 0.4)
    assert allot([0.7] * 8, [4] * 8, 8, costs) == [0] * 8
