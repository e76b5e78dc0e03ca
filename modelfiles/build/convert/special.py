"""The special tokens of a repository: their numbers, and which of them go around every text.

As the reader in llama.cpp's own sources has it (gguf-py/gguf/vocab.py), which is newer than that of
the package `gguf`: what tokenizer.json does to a text holds, whatever tokenizer_config.json claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .config import Json, read_json_if_there

_KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_SPACE = "\u0120"
_SPARE = ("eot", "eom")  # where the end of an answer is another token than that of a text


class Special:
    """What the files of `repository` say; numbers from `count` on are ignored."""

    def __init__(self, repository: Path, count: int | None = None) -> None:
        self.numbers: dict[str, int] = {}
        self.added: dict[str, bool] = {}  # kind → whether it goes around a text
        self._count = count
        self._kinds = list(_KINDS)
        self._settings = read_json_if_there(repository / "tokenizer_config.json")
        self._names = {kind: _content(self._settings.get(f"{kind}_token")) for kind in _KINDS}
        description = read_json_if_there(repository / "tokenizer.json")
        if description:
            self._read_processors(description.get("post_processor"))
        if self._settings:
            self._read_settings(description.get("added_tokens"))
        self._read_numbers(read_json_if_there(repository / "config.json"))

    def _read_processors(self, post_processor: object) -> None:
        self._fill("bos", self._names["cls"])
        self._fill("eos", self._names["sep"])
        for processor in _steps(post_processor):
            match processor.get("type"):
                case "ByteLevel":
                    self.added.setdefault("bos", False)
                    self.added.setdefault("eos", False)
                case "RobertaProcessing":
                    self.added |= dict.fromkeys(("bos", "eos", "sep"), True)
                    self._fill("cls", _first_text(processor.get("cls")) or self._names["bos"])
                    self._fill("sep", _first_text(processor.get("sep")) or self._names["eos"])
                case "TemplateProcessing":
                    self._read_template(processor)

    def _read_template(self, processor: Json) -> None:
        single = _entries(processor.get("single"))
        first = last = ""
        if len(single) > 1:
            if first := _special(single[0]):
                self._fill("bos", first)
                self._fill("cls", first)
                self.added["bos"] = first in (self._names["bos"], self._names["cls"])
            if last := _special(single[-1]):
                self._replace_end(last)
                self.added["eos"] = True
        self._read_pair(_entries(processor.get("pair")), first, last)

    def _replace_end(self, last: str) -> None:
        """The token that ends texts; the end that was known before becomes that of an answer."""
        before = self._names["eos"]
        if last == before:
            return
        spare = next((kind for kind in _SPARE if kind not in self._kinds), None)
        if spare is not None and self._settings:
            self._kinds.append(spare)
            self._names[spare] = before
        self._names["eos"] = last

    def _read_pair(self, pair: list[Json], first: str, last: str) -> None:
        """Whether something stands between two texts."""
        if pair and first and _special(pair[0]) == first:
            del pair[0]
        if pair and last and _special(pair[-1]) == last:
            del pair[-1]
        match [_sequence(entry) for entry in pair]:
            case ["A", *between, "B"] if between:
                pass
            case _:
                return
        ends = {self._names["sep"], self._names["eos"]} - {""}
        found = [_special(entry) in ends for entry in pair[1:-1]]
        self.added["sep"] = (found[0] and not last) or (len(found) == 2 and found[1])
        if self.added["sep"]:
            self._fill("sep", self._names["eos"])

    def _read_settings(self, added_tokens: object) -> None:
        numbers: dict[object, object] = {}
        for entry in _entries(added_tokens):
            numbers.setdefault(entry.get("content"), entry.get("id"))
        for kind in self._kinds:
            told = self._settings.get(f"add_{kind}_token")
            if isinstance(told, bool):
                self.added.setdefault(kind, told)
            if name := self._names.get(kind):
                self._set(kind, numbers.get(name))

    def _read_numbers(self, config: Json) -> None:
        """What config.json says holds for what is not known by name."""
        inner = config.get("text_config")
        text: Json = inner if isinstance(inner, dict) else {}
        for kind in self._kinds:
            number = config.get(f"{kind}_token_id")
            self._set(kind, text.get(f"{kind}_token_id") if number is None else number)

    def _set(self, kind: str, number: object) -> None:
        """Many repositories say -1 for a token that they lack."""
        if isinstance(number, int) and 0 <= number < (self._count or 1 << 32):
            self.numbers.setdefault(kind, number)

    def _fill(self, kind: str, name: str) -> None:
        if not self._names[kind]:
            self._names[kind] = name


def merges(repository: Path) -> list[str]:
    """The rules of a BPE vocabulary in their order, spaces within a part as the letter for them."""
    model = read_json_if_there(repository / "tokenizer.json").get("model")
    rules = model.get("merges") if isinstance(model, dict) else None
    if isinstance(rules, list) and rules:
        return _pairs(rules) or [rule if isinstance(rule, str) else _rule(rule) for rule in rules]
    path = repository / "merges.txt"
    return list(_lines(path)) if path.is_file() else []


def _pairs(rules: list[Any]) -> list[str]:  # Any: JSON
    """Rules that are all pairs without a space in them, as almost all are; else none."""
    if set(map(type, rules)) != {list} or set(map(len, rules)) != {2}:
        return []
    try:
        joined = list(map(" ".join, rules))
    except TypeError:  # a part is no text
        return []
    return joined if "\n".join(joined).count(" ") == len(joined) else []


def _rule(rule: object) -> str:
    """Plain, because a vocabulary has 100,000s of them."""
    if isinstance(rule, list) and len(rule) == 2:
        left, right = rule
        if isinstance(left, str) and isinstance(right, str):
            return f"{left.replace(' ', _SPACE)} {right.replace(' ', _SPACE)}"
    return ""


def _lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        parts = line.split()
        if len(parts) == 2 and not (number == 0 and line.startswith("#")):
            yield " ".join(parts)


def _steps(post_processor: object) -> Iterable[Json]:
    if not isinstance(post_processor, dict):
        return []
    return _entries(post_processor.get("processors", [post_processor]))


def _entries(values: object) -> list[Json]:
    return (
        [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    )


def _special(entry: Mapping[str, object]) -> str:
    return _identifier(entry.get("SpecialToken"))


def _sequence(entry: Mapping[str, object]) -> str:
    return _identifier(entry.get("Sequence"))


def _identifier(value: object) -> str:
    match value:
        case {"id": str(text)}:
            return text
    return ""


def _content(token: object) -> str:
    match token:
        case str(text) | {"content": str(text)}:
            return text
    return ""


def _first_text(values: object) -> str:
    return values[0] if isinstance(values, list) and values and isinstance(values[0], str) else ""
