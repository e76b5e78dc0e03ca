"""A model's vocabulary as GGUF wants it, whatever kind of tokenizer it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from .config import read_json_if_there
from .errors import BadConfig
from .pairs import Pairs, Text, Type
from .special import Special, merges

KINDS_OF_TEXT = "tokenizer.ggml.token_type_count"


class TokenType(IntEnum):
    """llama.cpp's numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens in the order of their numbers, and how text is cut into them."""

    model: str
    pre: str
    tokens: Sequence[Text]
    types: Sequence[TokenType]
    scores: Sequence[float] = ()
    has_merges: bool = False  # the repository says them
    rules: Sequence[str] = ()  # merges that the repository does not say
    special: Mapping[str, int] = field(default_factory=dict)  # where the files are silent
    n_special: int | None = None  # special tokens beyond it are ignored
    adds_space: bool | None = None  # before the first word
    token_types: int | None = None  # kinds of text that the model tells apart
    removes_spaces: bool | None = None  # where there are several
    character_map: bytes = b""  # of SentencePiece's normaliser

    def write(self, pairs: Pairs, repository: Path) -> None:
        pairs.text("tokenizer.ggml.model", self.model)
        pairs.text("tokenizer.ggml.pre", self.pre)
        pairs.texts("tokenizer.ggml.tokens", self.tokens)
        if self.scores:
            pairs.numbers("tokenizer.ggml.scores", Type.F32, self.scores)
        pairs.numbers("tokenizer.ggml.token_type", Type.I32, self.types)
        if self.adds_space is not None:
            pairs.flag("tokenizer.ggml.add_space_prefix", self.adds_space)
        if self.token_types is not None:
            pairs.u32(KINDS_OF_TEXT, self.token_types)
        if self.removes_spaces is not None:
            pairs.flag("tokenizer.ggml.remove_extra_whitespaces", self.removes_spaces)
        pairs.numbers("tokenizer.ggml.precompiled_charsmap", Type.U8, list(self.character_map))
        if self.has_merges or self.rules:
            pairs.texts("tokenizer.ggml.merges", self.rules or merges(repository))
        write_special(pairs, Special(repository, self.n_special), self.special)
        _write_template(pairs, chat_template(repository))
        for key, value in _normalizer(repository).items():
            pairs.flag(f"tokenizer.ggml.normalizer.{key}", value)


_SPECIAL_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
    "mask": "tokenizer.ggml.mask_token_id",
    "eot": "tokenizer.ggml.eot_token_id",
    "eom": "tokenizer.ggml.eom_token_id",
}
_ADDED = ("bos", "eos", "sep")


def write_special(pairs: Pairs, found: Special, fallback: Mapping[str, int]) -> None:
    """`fallback` holds where the files are silent."""
    for kind, number in {**found.numbers, **fallback, **found.numbers}.items():
        if kind in _SPECIAL_KEYS:
            pairs.u32(_SPECIAL_KEYS[kind], number)
    for kind, added in found.added.items():
        if kind in _ADDED:
            pairs.flag(f"tokenizer.ggml.add_{kind}_token", added)


def chat_template(repository: Path) -> object:
    """One template or a list of them; that of tokenizer_config.json before files of their own."""
    settings = read_json_if_there(repository / "tokenizer_config.json")
    if "chat_template" in settings:
        return settings.get("chat_template")
    plain = repository / "chat_template.jinja"
    if not plain.is_file():
        return read_json_if_there(repository / "chat_template.json").get("chat_template")
    others = sorted((repository / "additional_chat_templates").glob("*.jinja"))
    named = [{"name": path.stem, "template": _text(path)} for path in others]
    default = {"name": "default", "template": _text(plain)}
    return [default, *named] if named else default["template"]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"can't read {path.name}: {error}") from error


def _write_template(pairs: Pairs, template: object) -> None:
    """One template, or several by name, of which `default` is the one without a name."""
    if isinstance(template, str):
        pairs.text("tokenizer.chat_template", template)
        return
    named = {}
    for choice in template if isinstance(template, list) else ():
        match choice:
            case {"name": str(name), "template": str(text)} if name:
                named["".join(c if c.isascii() and c.isalnum() else "_" for c in name)] = text
    default = named.pop("default", "")
    for name in sorted(named):
        pairs.text(f"tokenizer.chat_template.{name}", named[name])
    pairs.texts("tokenizer.chat_templates", sorted(named))
    pairs.text("tokenizer.chat_template", default)


def _normalizer(repository: Path) -> dict[str, bool]:
    """Whether text is lowered or loses its accents before it is cut, as tokenizer.json says."""
    found: dict[str, bool] = {}
    waiting = [read_json_if_there(repository / "tokenizer.json").get("normalizer")]
    while waiting:
        match waiting.pop(0):
            case {"type": "Lowercase"}:
                found["lowercase"] = True
            case {"type": "StripAccents"}:
                found["strip_accents"] = True
            case {"type": "BertNormalizer", **rest}:
                flags = {key: rest.get(key) for key in ("lowercase", "strip_accents")}
                found |= {key: flag for key, flag in flags.items() if isinstance(flag, bool)}
            case {"type": "Sequence", "normalizers": [*steps]}:
                waiting += steps
    return dict(sorted(found.items()))


def looks_special(token: str) -> bool:
    """Tokens that makers forgot to mark as special, which nobody wants to see in an answer."""
    return (
        token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (token.startswith("<|") and token.endswith("|>"))
        or (token.startswith("<\uff5c") and token.endswith("\uff5c>"))
        or (token.startswith("<unused") and token.endswith(">"))
    )


def placeholders(count: int, start: int = 0) -> Iterable[str]:
    """Names for numbers that have a row in the embedding but no token."""
    return (f"[PAD{number}]" for number in range(start, start + count))
