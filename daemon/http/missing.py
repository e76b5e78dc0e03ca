"""How the routes of each API say that a model is missing: their clients look for the words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qm.store.errors import NotFound
from qm.store.manifests import ModelNotFound

# Of `{name}` as asked for, or `{tagged}` with its tag in any case.
SHOWN = "model '{tagged}' not found"
COPIED = 'model "{name}" not found'
EMBEDDED = 'model "{name}" not found, try pulling it first'


class Missing(NotFound):
    """ModelNotFound in the words of one route."""

    code = "model_not_found"

    def __init__(self, words: str, error: ModelNotFound) -> None:
        super().__init__(words.format(name=error.name.short, tagged=error.name))
        self._hint = error.hint

    @property
    def hint(self) -> str:
        return self._hint


@contextmanager
def told_as(words: str) -> Iterator[None]:
    """Says ModelNotFound in these words. Raises Missing in its place."""
    try:
        yield
    except ModelNotFound as error:
        raise Missing(words, error) from error
