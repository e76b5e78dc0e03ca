"""How a query and a text become the one input that a ranking model scores."""

from __future__ import annotations

import re
from typing import Final

from .vocabulary import Vocabulary

_PLACE: Final = re.compile(r"\{(query|document)\}")


class Pair:
    """A query, to be paired with texts.

    `template` is the model's own, with {query} and {document} in it; without one, the vocabulary's
    separators stand as in training: <s> query </s></s> text </s>, or [CLS] query [SEP] text [SEP].
    """

    def __init__(self, query: str, vocabulary: Vocabulary, template: str) -> None:
        self._vocabulary = vocabulary
        self._template = template
        self._query = query

    def tokens(self, text: str) -> list[int]:
        """The input for `text`."""
        vocabulary = self._vocabulary
        if self._template:
            return self._filled(self._template, text)
        end = [vocabulary.eos if vocabulary.eos >= 0 else vocabulary.sep]
        separator = [vocabulary.sep] if vocabulary.add_sep else []
        return [
            *([vocabulary.bos] if vocabulary.add_bos else []),
            *self._plain(self._query),
            *(end if vocabulary.add_eos else []),
            *separator,
            *self._plain(text),
            *(end if vocabulary.add_eos else separator),
        ]

    def end(self) -> list[int]:
        """What follows the text in every input: models judge by it, so it outlives a cut."""
        if not self._template:
            return []
        return self._filled(self._template.rpartition("{document}")[2], "")

    def _filled(self, template: str, text: str) -> list[int]:
        """All places are filled at once: what a query or a text says is no place."""
        values = {"query": self._query, "document": text}
        whole = _PLACE.sub(lambda place: values[place[1]], template)
        return self._vocabulary.tokenize(whole, add_special=False, parse_special=True)

    def _plain(self, text: str) -> list[int]:
        return self._vocabulary.tokenize(text, add_special=False, parse_special=False)
