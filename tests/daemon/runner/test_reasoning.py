"""Where reasoning ends and the constraint begins."""

from __future__ import annotations

import pytest
from qm.daemon.runner.reasoning import Reasoning, Verdict, most_reasoning

GO_ON = Verdict(over=False, keep=True)
ENDS = Verdict(over=True, keep=True)
MOST = 100
TEXT = b"<think>\nWell.</think>"


def fed(reasoning: Reasoning, *pieces: bytes) -> list[Verdict]:
    return [reasoning.feed(piece) for piece in pieces]


@pytest.mark.parametrize("at", range(len(b"<think>"), len(TEXT)))
def test_it_ends_with_its_closing_tag(at: int) -> None:
    """However the tag is cut into tokens; what came before is not looked at."""
    reasoning = Reasoning("<think>", "</think>", MOST)
    assert fed(reasoning, TEXT[:at], TEXT[at:]) == [GO_ON, ENDS]


def test_the_prompt_may_have_begun_it() -> None:
    reasoning = Reasoning("", "</think>", MOST)
    assert fed(reasoning, b"so", b" <", b"/", b"think", b">\n\n")[-1] == ENDS


def test_an_answer_that_begins_inside_the_last_token_is_cut_off() -> None:
    """That token may hold text that the constraint forbids: the tag alone stands for it."""
    reasoning = Reasoning("", "</think>", MOST)
    assert fed(reasoning, b"</think", b">{")[-1] == Verdict(over=True, keep=False, instead=b">")


def test_an_answer_without_reasoning_is_constrained_from_its_first_token() -> None:
    """White space may stand before either."""
    assert Reasoning("<think>", "</think>", MOST).feed(b"Hi") == Verdict(over=True, keep=False)
    reasoning = Reasoning("<think>", "</think>", MOST)
    assert fed(reasoning, b"\n", b"<", b"x") == [
        GO_ON,
        Verdict(over=False, keep=False, instead=b"<think>"),
        GO_ON,
    ]


def test_a_model_that_ends_while_it_reasons_must_answer_yet() -> None:
    assert Reasoning("", "</think>", MOST).end() == Verdict(
        over=True, keep=False, instead=b"</think>"
    )
    assert Reasoning("<think>", "</think>", MOST).end() == Verdict(over=True, keep=False)


@pytest.mark.parametrize("opening", ["", "<think>"])
def test_it_is_over_after_so_many_tokens(opening: str) -> None:
    """A model that never ends its reasoning answers yet, whatever of the tag it had begun."""
    reasoning = Reasoning(opening, "</think>", 3)
    begun = [b"<think>"] if opening else [b"so"]
    over = Verdict(over=True, keep=False, instead=b"</think>")
    assert fed(reasoning, *begun, b"so", b"</", b"so") == [GO_ON, GO_ON, GO_ON, over]


def test_white_space_is_no_reasoning_without_end() -> None:
    reasoning = Reasoning("<think>", "</think>", 2)
    assert fed(reasoning, b"\n", b"\n", b"\n")[-1] == Verdict(over=True, keep=False)


def test_half_of_a_short_answer_is_left_and_enough_of_a_long_one() -> None:
    assert most_reasoning(64, room=8000) == 32
    assert most_reasoning(-1, room=8000) == most_reasoning(9000, room=8000) == 8000 - 1024
    assert (most_reasoning(0, room=8000), most_reasoning(1, room=8000)) == (1, 1)
