"""How a query and a text become the one input that a ranking model scores."""

from __future__ import annotations

from .vocabulary import Vocabulary


class Pair:
    """A query, to be paired with texts.

    `template` is the model's own, with {query} and {document} in it; without one, the vocabulary's
    separators stand as in training: <s> query </s></s> text </s>, or [CLS] query [SEP] text [SEP].
    """

    def __init__(self, query: str, vocabulary: Vocabulary, template: str) -> None:
        self._vocabulary = vocabulary
        self._template = template.replace("{query}", query)
        self._query = self._plain(query)

    def tokens(self, text: str) -> list[int]:
        """The input for `text`."""
        vocabulary = self._vocabulary
        if self._template:
            whole = self._template.replace("{document}", text)
            return vocabulary.tokenize(whole, add_special=False, parse_special=True)
        end = [vocabulary.eos if vocabulary.eos >= 0 else vocabulary.sep]
        separator = [vocabulary.sep] if vocabulary.add_sep else []
        return [
            *([vocabulary.bos] if vocabulary.add_bos else []),
            *self._query,
            *(end if vocabulary.add_eos else []),
            *separator,
            *self._plain(text),
            *(end if vocabulary.add_eos else separator),
        ]

    def _plain(self, text: str) -> list[int]:
        return self._vocabulary.tokenize(text, add_special=False, parse_special=False)
