"""The part of a tokenizer that a few texts need.

To read the whole of one takes longer than all else about a vocabulary, and a conversion asks it
only how it cuts one probe and the tokens that were added.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final

from .config import Json
from .tiktoken import letters

_CUTTING: Final = frozenset({"Split", "Digits", "Punctuation"})  # every word is a piece of the text
_PLAIN: Final = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
_MOST_LETTERS: Final = 1 << 13
_SHORT: Final = 16


def sample_of(description: Json, texts: Iterable[str]) -> tuple[Json, Mapping[str, int]] | None:
    """A tokenizer.json that cuts `texts` into the same numbers, and the number of every token.

    None where only the whole can tell, or where something is wrong with it.
    """
    model = description.get("model")
    if not isinstance(model, dict) or not _is_plain(description, model):
        return None
    vocabulary, rules = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(rules, list):
        return None
    if set(map(type, vocabulary.values())) != {int} or min(vocabulary.values()) < 0:
        return None
    added = _added_numbers(description, vocabulary)
    spelt = "\0".join(_letters(text) for text in texts)
    made = _made(rules, vocabulary)
    if added is None or made is None or len(spelt) > _MOST_LETTERS:
        return None
    occurring = _occurring(spelt, vocabulary)
    kept = {text: vocabulary[text] for text in occurring} | added
    if isinstance(unknown := model.get("unk_token"), str) and unknown in vocabulary:
        kept[unknown] = vocabulary[unknown]
    merges = [rule for rule, text in zip(rules, made, strict=True) if text in occurring]
    return description | {"model": model | {"vocab": kept, "merges": merges}}, vocabulary | added


def _is_plain(description: Json, model: Json) -> bool:
    """Whether words are pieces of the text, in letters for its bytes, and merged by rules alone."""
    return (
        model.get("type") == "BPE"
        and not any(model.get(key) for key in _PLAIN)
        and description.get("normalizer") in (None, {"type": "NFC"})
        and _only_cuts(description.get("pre_tokenizer"))
    )


def _only_cuts(step: Any) -> bool:  # Any: JSON
    match step:
        case {"type": "Sequence", "pretokenizers": [*steps, last]}:
            return all(map(_cuts, steps)) and _only_cuts(last)
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return True
    return False


def _cuts(step: Any) -> bool:  # Any: JSON
    return isinstance(step, dict) and step.get("type") in _CUTTING


def _added_numbers(description: Json, vocabulary: Mapping[str, int]) -> dict[str, int] | None:
    """None where the library would number them otherwise than the file says."""
    found: dict[str, int] = {}
    following = len(vocabulary)
    for entry in description.get("added_tokens") or ():
        text, number = entry["content"], entry["id"]
        if not text or number != vocabulary.get(text, following):
            return None
        found[text] = number
        following = max(following, number + 1)
    return found


def _made(rules: list[Any], vocabulary: Mapping[str, int]) -> list[str] | None:
    """The token that each rule makes; None where one is damaged. There are 100,000s of them."""
    kinds = set(map(type, rules))
    pairs = [rule.split(" ") for rule in rules] if kinds == {str} else rules
    if not kinds <= {str, list} or set(map(len, pairs)) != {2}:
        return None
    try:
        made = list(map("".join, pairs))
    except TypeError:  # a part is no text
        return None
    return made if all(map(vocabulary.__contains__, chain(chain(*pairs), made))) else None


def _occurring(spelt: str, vocabulary: Mapping[str, int]) -> set[str]:
    """The tokens that are pieces of the text."""
    short = {
        spelt[start : start + size]
        for size in range(1, _SHORT + 1)
        for start in range(len(spelt) - size + 1)
    }
    long = [text for text in vocabulary if len(text) > _SHORT and text in spelt]
    return (short & vocabulary.keys()).union(long)


def _letters(text: str) -> str:
    """Of the text and of its composed form."""
    forms = dict.fromkeys((text, unicodedata.normalize("NFC", text)))
    return "\0".join(letters(form.encode(errors="replace")) for form in forms)
