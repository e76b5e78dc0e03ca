"""Where reasoning ends and the constraint begins."""

from __future__ import annotations

import pytest
from qm.daemon.runner.reasoning import Reasoning, Verdict

GO_ON = Verdict(over=False, keep=True)
ENDS = Verdict(over=True, keep=True)
TEXT = b"<think>\nWell.</think>"


def fed(reasoning: Reasoning, *pieces: bytes) -> list[Verdict]:
    return [reasoning.feed(piece) for piece in pieces]


@pytest.mark.parametrize("at", range(len(b"<think>"), len(TEXT)))
def test_it_ends_with_its_closing_tag(at: int) -> None:
    """However the tag is cut into tokens; what came before is not looked at."""
    reasoning = Reasoning("<think>", "</think>")
    assert fed(reasoning, TEXT[:at], TEXT[at:]) == [GO_ON, ENDS]


def test_the_prompt_may_have_begun_it() -> None:
    reasoning = Reasoning("", "</think>")
    assert fed(reasoning, b"so", b" <", b"/", b"think", b">\n\n")[-1] == ENDS


def test_an_answer_that_begins_inside_the_last_token_is_cut_off() -> None:
    """That token may hold text that the constraint forbids: the tag alone stands for it."""
    reasoning = Reasoning("", "</think>")
    assert fed(reasoning, b"</think", b">{")[-1] == Verdict(over=True, keep=False, instead=b">")


def test_an_answer_without_reasoning_is_constrained_from_its_first_token() -> None:
    """White space may stand before either."""
    assert Reasoning("<think>", "</think>").feed(b"Hi") == Verdict(over=True, keep=False)
    reasoning = Reasoning("<think>", "</think>")
    assert fed(reasoning, b"\n", b"<", b"x") == [
        GO_ON,
        Verdict(over=False, keep=False, instead=b"<think>"),
        GO_ON,
    ]


def test_a_model_that_ends_while_it_reasons_must_answer_yet() -> None:
    assert Reasoning("", "</think>").end() == Verdict(over=True, keep=False, instead=b"</think>")
    assert Reasoning("<think>", "</think>").end() == Verdict(over=True, keep=False)
