"""A query and a text become one input by the model's template."""

from __future__ import annotations

from typing import Any, cast

import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.embedding import EmbedWork
from qm.daemon.runner.preparing import Ready, embedding

TEMPLATE = "Q: {query} D: {document} Good?"


class Letters:
    """Each letter is a token."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return [ord(letter) for letter in text]


def written(query: str, text: str, limit: int) -> str:
    """The input as it is evaluated."""
    ready = Ready(cast("Any", Letters()), limit, True, TEMPLATE, cast("Any", None))
    work = embedding(wire.Embed(0, (text,), rerank_query=query), ready)
    assert isinstance(work, EmbedWork)
    return "".join(map(chr, work.inputs[0]))


@pytest.mark.parametrize("query", ["why", "{document}", "{query} {x}"])
def test_what_a_query_says_is_no_place_for_the_text(query: str) -> None:
    """Nor what a text says one for the query."""
    assert written(query, "a {query}", 99) == f"Q: {query} D: a {{query}} Good?"


def test_a_text_that_is_too_long_loses_its_own_end() -> None:
    """The question behind it, by whose answer it is ranked, stays."""
    assert written("why", "because " * 9, 30) == "Q: why D: because becaus Good?"
    assert written("why", "because", 4) == "ood?"
