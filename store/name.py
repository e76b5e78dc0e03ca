"""Model names: `[host/][namespace/]model[:tag]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import InvalidRequest

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_RULES = {"host": _HOST, "namespace": _NAMESPACE, "model": _WORD, "tag": _WORD}
_SHOWN_CHARACTERS = 100


class InvalidName(InvalidRequest):
    """A model name that can't name anything; says which part is wrong."""

    code = "invalid_name"


@dataclass(frozen=True, slots=True)
class Name:
    """A complete name whose parts are safe as path components.

    Case is kept for display; `key` says whether two names mean the same model.
    """

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        for part, rule in _RULES.items():
            if not rule.fullmatch(getattr(self, part)):
                raise InvalidName(f"invalid model name {_quoted(self)}: the {part} is not valid")

    @classmethod
    def parse(cls, text: str) -> Name:
        """The name that `text` means, its missing parts filled with the defaults."""
        *front, last = text.strip().split("/")
        model, colon, tag = last.partition(":")
        if len(front) > 2:
            raise InvalidName(f"invalid model name {_quoted(text)}: use [host/][namespace/]model")
        if not model or (colon and not tag):
            raise InvalidName(f"invalid model name {_quoted(text)}: use [host/][namespace/]model")
        namespace = front.pop() if front else DEFAULT_NAMESPACE
        host = front.pop() if front else DEFAULT_HOST
        return cls(host, namespace, model, tag or DEFAULT_TAG)

    def __str__(self) -> str:
        return f"{self._path}:{self.tag}"

    @property
    def short(self) -> str:
        """The name as people write it: without the default tag."""
        return self._path if self.tag == DEFAULT_TAG else str(self)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Equal for names that mean the same model: case does not count."""
        return (
            self.host.casefold(),
            self.namespace.casefold(),
            self.model.casefold(),
            self.tag.casefold(),
        )

    @property
    def _path(self) -> str:
        if self.host.casefold() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}"
        if self.namespace.casefold() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}"
        return self.model


def _quoted(name: object) -> str:
    text = name._path if isinstance(name, Name) else str(name)
    return repr(text[:_SHOWN_CHARACTERS] + ("…" if len(text) > _SHOWN_CHARACTERS else ""))
