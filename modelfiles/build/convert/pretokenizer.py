"""Which of llama.cpp's ways of cutting text into words a byte-level BPE tokenizer uses.

First by fingerprint, which is exact for the tokenizers that llama.cpp was tested with; then, for
vocabularies that somebody extended or trained anew, by the rules that tokenizer.json states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from .config import Json
from .errors import UnknownTokenizer
from .fingerprints import FINGERPRINTS

PROBE = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n\U0001f680 (normal) "
    "\U0001f636\u200d\U0001f32b\ufe0f (multiple emojis concatenated) \u2705 "
    "\U0001f999\U0001f999 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 "
    "\u1780\u17b6\u1793\u17cb\u178f\u17c2\u1796\u17b7\u179f\u17c1\u179f\u17a2\u17b6\u1785"
    "\U0001f601 ?\u6211\u60f3\u5728apple\u5de5\u4f5c1314151\u5929\uff5e ------======= "
    "\u043d\u0435\u0449\u043e \u043d\u0430 \u0411\u044a\u043b\u0433\u0430\u0440\u0441\u043a\u0438 "
    "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
QWEN2_WORDS = rf"{_CONTRACTIONS}{_WORDS}\p{{N}}|{_TAIL}"
_RULES = {
    (_GPT2,): "gpt-2",
    ("digit", _GPT2): "smollm",
    ("digits", _GPT2): "gpt-2",
    (rf"{_CONTRACTIONS}{_WORDS}\p{{N}}{{1,3}}|{_TAIL}",): "llama-bpe",
    (QWEN2_WORDS,): "qwen2",
    (rf"{_UPPER}*{_LOWER}+|{_UPPER}+{_LOWER}*|\p{{N}}|{_TAIL_SLASH}",): "tekken",
    (
        rf"{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
        rf"|\p{{N}}{{1,3}}|{_TAIL_SLASH}",
    ): "gpt-4o",
    (" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+",): "bloom",
    ("punctuation", _GPT2, "digits", "[0-9][0-9][0-9]"): "falcon",
}


def pretokenizer(tokenizer: Tokenizer, description: Json) -> str:
    """llama.cpp's name for it; raises UnknownTokenizer when it has none."""
    numbers = tokenizer.encode(PROBE).ids
    known = FINGERPRINTS.get(hashlib.sha256(str(numbers).encode()).hexdigest())
    if known is not None:
        return known
    rules = tuple(_rules(description.get("pre_tokenizer")))
    if rules not in _RULES:
        raise UnknownTokenizer(
            f"tokenizer.json cuts text by rules that llama.cpp has no name for: {list(rules)}"
        )
    return _RULES[rules]


def _rules(step: Any) -> Iterator[str]:  # Any: JSON
    """The steps as short words, and the regular expressions of those that have one."""
    match step:
        case {"type": "Sequence", "pretokenizers": [*steps]}:
            for each in steps:
                yield from _rules(each)
        case {"type": "ByteLevel"}:
            if step.get("use_regex", True):
                yield _GPT2
        case {"type": "Split", "pattern": {"Regex": str(expression)}}:
            yield expression
        case {"type": "Digits"}:
            yield "digit" if step.get("individual_digits") else "digits"
        case {"type": str(other)}:
            yield other.lower()
