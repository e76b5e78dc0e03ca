"""GBNF read as llama.cpp reads it."""

from __future__ import annotations

import pytest
from llguidance import LLMatcher
from qm.daemon.runner.gbnf import GrammarError, to_lark

A, B = r"/[\x{61}]/", r"/[\x{62}]/"


def rules(text: str) -> list[str]:
    """The Lark rules of `text`, without the line that names the first; llguidance reads them."""
    lark = to_lark(text)
    error, messages = LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_lark(lark))
    assert not error, messages
    return lark.splitlines()[1:]


@pytest.mark.parametrize(
    ("body", "lark"),
    [
        ('"ab"', f"({A} {B})"),
        ('""', '""'),
        ('"a" | "b"', f"({A}) | ({B})"),
        ('| "a"', f'"" | ({A})'),
        ('("a" | "b")*', f"((({A}) | ({B})))*"),
        ('"a"+ "b"?', f"(({A}))+ (({B}))?"),
        ('"a"{2} "b"{1,} "a"{0,3}', f"(({A})){{2}} (({B})){{1,}} (({A})){{0,3}}"),
        ("[a-c]", r"/[\x{61}-\x{63}]/"),
        ("[^a-c\\n]", r"/[^\x{61}-\x{63}\x{a}]/"),
        ("[-a]", r"/[\x{2d}\x{61}]/"),
        ("[a-]", r"/[\x{61}\x{2d}]/"),
        (r"[\]\\\x41\u00e9]", r"/[\x{5d}\x{5c}\x{41}\x{e9}]/"),
        (r'"\"\t"', r"(/[\x{22}]/ /[\x{9}]/)"),
        ('"é日"', r"(/[\x{e9}]/ /[\x{65e5}]/)"),
        (".", r"/[\x{0}-\x{10ffff}]/"),
        ('"a" # a comment with "quotes"', f"({A})"),
        ('(\n"a"\n| "b"\n)', f"(({A}) | ({B}))"),
        ('"a" |\n"b"', f"({A}) | ({B})"),
    ],
)
def test_what_a_rule_means(body: str, lark: str) -> None:
    assert rules(f"root ::= {body}") == [f"rule_0: {lark}"]


def test_rules_refer_to_each_other() -> None:
    """In any order, whatever their names are; Windows's ends of lines are fine."""
    text = 'snake_Case ::= root-2\r\n\r\nroot-2 ::= "a"\r\nroot ::= snake_Case*\r\n'
    assert rules(text) == ["rule_0: rule_1", f"rule_1: ({A})", "rule_2: (rule_0)*"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no rule named 'root'"),
        ("root", "line 1: expected '::='"),
        ('root ::= "a', "line 1"),
        ("root ::= other", "rule 'other' does not exist"),
        ('root ::= "a"\nroot ::= "b"', "line 2: rule 'root' is there twice"),
        ('root ::= ("a"', "never closed"),
        ('root ::= "a")', "line 1"),
        ("root ::= *", "makes no sense"),
        ("root ::= [z-a]", "empty range"),
        ("root ::= []", "matches nothing"),
        (r'root ::= "\q"', "no escape"),
        (r'root ::= "\ud800"', "no character"),
        ('root ::= "a"{3,1}', "less than its least"),
        ('root ::= "a"{x}', "no repetition"),
        ('root ::= "a"{99999}', "more than 1000"),
        ("root ::= <[12]>", "makes no sense"),
        ("root ::= " + "(" * 60_000, "more than 64 nested"),
        ("root ::= " + '"a" ' * 20_000, "more than 65536 bytes"),
    ],
)
def test_broken_grammars_say_where(text: str, reason: str) -> None:
    with pytest.raises(GrammarError, match=reason.replace("(", r"\(")):
        to_lark(text)
