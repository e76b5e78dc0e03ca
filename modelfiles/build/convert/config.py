"""JSON files of a repository, read once and asked for facts by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from .errors import BadConfig

Json: TypeAlias = dict[str, Any]  # Any: whatever a stranger's JSON holds

_MAX_JSON_BYTES = 256 << 20
_MAX_VOCABULARY = 1 << 22
_MAX_NUMBER = 1e30


def read_json(path: Path) -> Json:
    """The JSON object in `path`, which is shared among those who ask: change a copy."""
    try:
        status = path.stat()
        if status.st_size > _MAX_JSON_BYTES:
            raise BadConfig(f"{path.name} is larger than {_MAX_JSON_BYTES >> 20} MiB")
        return _parsed(path, (status.st_ino, status.st_mtime_ns, status.st_size))
    except OSError as error:
        raise BadConfig(f"can't read {path.name}: {error.strerror}") from error


@lru_cache(maxsize=4)
def _parsed(path: Path, _version: tuple[int, ...]) -> Json:
    """A tokenizer's megabytes are asked for many times."""
    return as_json(path.read_bytes(), path.name)


def forget_json() -> None:
    """Frees what was read."""
    _parsed.cache_clear()


def as_json(data: bytes, file: str) -> Json:
    """The JSON object that `data` spells."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"{file} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadConfig(f"{file} is not a JSON object")
    return value


def read_json_if_there(path: Path) -> Json:
    """As `read_json`; an empty object if there is no such file."""
    return read_json(path) if path.is_file() else {}


class Config:
    """config.json, each fact under one of several names; raises BadConfig for a wrong type."""

    def __init__(self, values: Mapping[str, Any], file: str = "config.json") -> None:
        self.values = dict(values)
        self._file = file

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def find(self, *names: str) -> Any:
        """The first of `names` that is there, None when none is."""
        return next((self.values[name] for name in names if name in self), None)

    def whole_or_none(self, *names: str) -> int | None:
        value = self.find(*names)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise BadConfig(f"{self._file}: {names[0]} is {value!r}, want a whole number")
        if value is not None and not -(1 << 31) <= value < 1 << 32:
            raise BadConfig(f"{self._file}: {names[0]} is {value}, out of all proportion")
        return value

    def whole(self, *names: str) -> int:
        value = self.whole_or_none(*names)
        if value is None:
            raise BadConfig(f"{self._file} lacks {names[0]}")
        return value

    def count(self, *names: str) -> int:
        """A whole number above zero."""
        value = self.whole(*names)
        if value <= 0:
            raise BadConfig(f"{self._file}: {names[0]} is {value}, want at least 1")
        return value

    def vocabulary_size(self) -> int | None:
        """How many tokens the model knows, if it is said."""
        size = self.whole_or_none("vocab_size")
        if size is not None and not 0 < size <= _MAX_VOCABULARY:
            raise BadConfig(f"{self._file}: a vocabulary of {size} is out of all proportion")
        return size

    def number_or_none(self, *names: str) -> float | None:
        value = self.find(*names)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise BadConfig(f"{self._file}: {names[0]} is {value!r}, want a number")
        return float(value)

    def number(self, *names: str) -> float:
        value = self.number_or_none(*names)
        if value is None:
            raise BadConfig(f"{self._file} lacks {names[0]}")
        return value

    def flag(self, name: str, otherwise: bool = False) -> bool:
        value = self.find(name)
        return otherwise if value is None else bool(value)

    def text(self, name: str) -> str:
        """The text under `name`, empty when there is none."""
        value = self.find(name)
        return value if isinstance(value, str) else ""

    def table(self, name: str) -> Json:
        """The object under `name`, empty when there is none."""
        value = self.find(name)
        if value is not None and not isinstance(value, dict):
            raise BadConfig(f"{self._file}: {name} is {value!r}, want an object")
        return dict(value or {})

    def numbers(self, name: str) -> list[float]:
        """The list of numbers under `name`, empty when there is none."""
        values = self.sequence(name)
        if not all(isinstance(value, int | float) and abs(value) < _MAX_NUMBER for value in values):
            raise BadConfig(f"{self._file}: {name} is {values!r}, want numbers")
        return [float(value) for value in values]

    def sequence(self, name: str) -> Sequence[Any]:
        value = self.find(name)
        if value is not None and not isinstance(value, list):
            raise BadConfig(f"{self._file}: {name} is {value!r}, want a list")
        return value or []

    def within(self, name: str) -> Config:
        """The object under `name` as a Config of its own."""
        return Config(self.table(name), f"{self._file}: {name}")


def with_text_config(values: Json) -> Json:
    """What a multimodal repository says about its language model, at the root."""
    inner = values.get("text_config")
    return {**values, **inner} if isinstance(inner, dict) else values
