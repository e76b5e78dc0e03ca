"""The part of a tokenizer that stands for the whole: the same numbers, or no part at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from qm.modelfiles.build.convert.bpe import read_tokenizer
from qm.modelfiles.build.convert.errors import BadConfig
from qm.modelfiles.build.convert.pretokenizer import PROBE, QWEN2_WORDS
from qm.modelfiles.build.convert.sample import sample_of
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

Description = dict[str, Any]  # Any: JSON
Change = Callable[[Description], object]
WORDS = {
    "type": "Split",
    "pattern": {"Regex": QWEN2_WORDS},
    "behavior": "Isolated",
    "invert": False,
}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@cache
def trained() -> str:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    text = [PROBE, "the part of a tokenizer that a few texts need, and what nobody asks for " * 3]
    alphabet = ByteLevel.alphabet()
    tokenizer.train_from_iterator(text, BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    return str(tokenizer.to_str())


def described(*changes: Change) -> Description:
    description: Description = json.loads(trained())
    for change in changes:
        change(description)
    return description


def adding(*contents: str, normalized: bool = False) -> Change:
    def change(description: Description) -> None:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
        vocabulary = description["model"]["vocab"]
        description["added_tokens"] = [
            {"id": len(vocabulary) + n, "content": text, "normalized": normalized, **flags}
            for n, text in enumerate(contents)
        ]

    return change


def model(**values: object) -> Change:
    return lambda description: description["model"].update(values)


def top(**values: object) -> Change:
    return lambda description: description.update(values)


def joined(description: Description) -> None:
    model(merges=[" ".join(each) for each in description["model"]["merges"]])(description)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (joined,),
        (model(ignore_merges=True), adding("<|im_start|>", "  ", "      ", "\u00e9 x")),
        (adding("e\u0301", "emojis", normalized=True), top(normalizer={"type": "NFC"})),
        (top(pre_tokenizer={"type": "Sequence", "pretokenizers": [WORDS, BYTES]}),),
    ],
)
def test_a_sample_cuts_as_the_whole_does(changes: tuple[Change, ...]) -> None:
    """The probe and every added token, and it knows the number of each token."""
    description = described(*changes)
    whole = Tokenizer.from_str(json.dumps(description))
    texts = [PROBE, *(entry["content"] for entry in description["added_tokens"])]
    sample = sample_of(description, texts)
    assert sample is not None
    part = Tokenizer.from_str(json.dumps(sample[0]))
    assert sample[1] == whole.get_vocab(with_added_tokens=True)
    assert part.get_vocab_size() < whole.get_vocab_size()
    for text in texts:
        numbers = whole.encode(text).ids
        assert part.encode(text).ids == numbers
        assert part.decode(numbers, skip_special_tokens=False) == whole.decode(
            numbers, skip_special_tokens=False
        )


@pytest.mark.parametrize(
    "change",
    [
        top(normalizer={"type": "Lowercase"}),
        top(pre_tokenizer=BYTES | {"add_prefix_space": True}),
        top(pre_tokenizer={"type": "Metaspace"}),
        top(added_tokens=[{"id": 9000, "content": "<far>", "normalized": False}]),
        model(byte_fallback=True),
        model(dropout=0.1),
        model(merges=[["Q", "Q"]]),
        model(merges=[["a", 1]]),
        model(vocab={"a": -1}),
        model(vocab={}),
        model(type="Unigram"),
    ],
)
def test_what_else_could_matter_takes_the_whole(change: Change) -> None:
    """Also what is damaged: the library says what is wrong with it."""
    assert sample_of(described(change), [PROBE]) is None


def test_letters_that_are_half_of_one_are_refused(tmp_path: Path) -> None:
    """JSON can spell them, a GGUF can't."""
    description = described(adding("\ud800"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    with pytest.raises(BadConfig, match=r"tokenizer\.json is damaged"):
        read_tokenizer(tmp_path)
