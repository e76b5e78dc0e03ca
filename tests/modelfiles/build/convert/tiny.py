"""Repositories of a few kilobytes, the same bytes whenever and wherever they are made.

Weights come from a hash of each tensor's name; tokenizers have the bytes, a few words and the usual
special tokens. Needs numpy only, so that the oracle's Python can make them too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]  # Any: any type of numbers
Json = dict[str, Any]  # Any: a JSON document

SPACE = "\u2581"
WORDS = ("the", "he", "in", "er", "an", "on", "re", "nd")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>")
# Of a normaliser that changes nothing: the trie's size, a trie without a branch, no replacements
_CHARACTER_MAP = base64.b64encode(struct.pack("<I", 1024) + bytes(1025)).decode()


def write_repository(
    path: Path,
    config: Json,
    tensors: Mapping[str, Sequence[int]],
    *,
    tokenizer: str = "bpe",
    dtype: str = "BF16",
    files: Mapping[str, Any] | None = None,
) -> None:
    """Lays out a repository with such tensors (name → shape) in `path`."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    for name, content in (_TOKENIZERS[tokenizer]() | dict(files or {})).items():
        file = path / name
        file.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content))
    arrays = {name: (dtype, weights(name, shape)) for name, shape in tensors.items()}
    write_safetensors(path / "model.safetensors", arrays)


def weights(name: str, shape: Sequence[int]) -> Array:
    """Numbers between -0.1 and 0.1, those of norms around 1, that BF16 holds exactly."""
    count = int(np.prod(shape))
    data = hashlib.shake_128(name.encode()).digest(count)
    numbers = np.frombuffer(data, np.int8).astype(np.float32) / 1280
    if "norm" in name and name.endswith("weight"):
        numbers = 1 + numbers
    bits = numbers.astype(np.float32).view(np.uint32) & 0xFFFF0000
    return bits.view(np.float32).reshape(tuple(shape))


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, Array]]) -> None:
    """Writes name → (type, numbers); BF16 is cut off from float32, other types are as they are."""
    header: Json = {}
    data = bytearray()
    for name, (dtype, array) in tensors.items():
        stored = _stored(dtype, array)
        span = [len(data), len(data) + len(stored)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": span}
        data += stored
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _stored(dtype: str, array: Array) -> bytes:
    if dtype == "BF16":
        return (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    if dtype == "F16":
        return array.astype(np.float16).tobytes()
    return array.tobytes()


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte in byte-level BPE."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    letters = {byte: chr(byte) for byte in kept}
    letters |= {byte: chr(256 + number) for number, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def _added(text: str, number: int, special: bool = True) -> Json:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, **flags, "special": special}


def _bpe() -> Json:
    vocabulary = {letter: number for number, letter in enumerate(_byte_letters())}
    for word in sorted(WORDS, key=len):
        vocabulary[word] = len(vocabulary)
    merges = [f"{word[0]} {word[1:]}" for word in sorted(WORDS, key=len)]
    added = [_added(text, len(vocabulary) + number) for number, text in enumerate(SPECIAL)]
    added.append(_added("plain added", len(vocabulary) + len(SPECIAL), special=False))
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "tokenizer.json": {
            "version": "1.0",
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": step | {"use_regex": True},
            "post_processor": None,
            "decoder": step | {"use_regex": True},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "add_bos_token": False,
            "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
        },
    }


def _bpe_template() -> Json:
    """One that puts a token before every text, which tokenizer_config.json denies."""
    files = _bpe()
    description = files["tokenizer.json"]
    first = "<|im_start|>"
    number = next(e["id"] for e in description["added_tokens"] if e["content"] == first)
    before = {"SpecialToken": {"id": first, "type_id": 0}}
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    template = {
        "type": "TemplateProcessing",
        "single": [before, texts[0]],
        "pair": [before, texts[0], before, texts[1]],
        "special_tokens": {first: {"id": first, "ids": [number], "tokens": [first]}},
    }
    steps = [description["decoder"] | {"type": "ByteLevel", "trim_offsets": False}, template]
    description["post_processor"] = {"type": "Sequence", "processors": steps}
    return files


def _bpe_files() -> Json:
    """GPT-2's own two files, from before there was a tokenizer.json."""
    model = _bpe()["tokenizer.json"]["model"]
    vocabulary = model["vocab"] | {SPECIAL[0]: len(model["vocab"])}
    return {
        "vocab.json": vocabulary,
        "merges.txt": "\n".join(["#version: 0.2", *model["merges"], ""]),
        "added_tokens.json": {SPECIAL[1]: len(vocabulary), "plain added": len(vocabulary) + 1},
        "tokenizer_config.json": {
            "tokenizer_class": "GPT2Tokenizer",
            **{f"{kind}_token": SPECIAL[0] for kind in ("bos", "eos", "unk")},
            "additional_special_tokens": [SPECIAL[1]],
        },
    }


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _piece(text: str, score: float, kind: int) -> bytes:
    score_field = _varint(2 << 3 | 5) + struct.pack("<f", score)
    return _field(1, _field(1, text.encode()) + score_field + _varint(3 << 3) + _varint(kind))


def _pieces() -> list[tuple[str, float, int]]:
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    letters = [SPACE, *"abcdefghijklmnopqrstuvwxyz", *WORDS, *(SPACE + word for word in WORDS)]
    return pieces + [(text, -float(number), 1) for number, text in enumerate(letters)]


def _sentencepiece() -> Json:
    """A model of the kind BPE, with two tokens added beside it."""
    model = b"".join(_piece(*piece) for piece in _pieces())
    flags = ((3, 2), (35, 1))  # of the kind BPE, bytes for letters that it lacks
    trainer = _field(2, b"".join(_varint(tag << 3) + _varint(value) for tag, value in flags))
    added = len(_pieces())
    decoder = {
        "1": _added("<s>", 1),
        "2": _added("</s>", 2),
        str(added): _added("<|im_end|>", added),
        str(added + 1): _added(f"{SPACE}plain", added + 1, special=False),
    }
    return {
        "tokenizer.model": model + trainer,
        "tokenizer_config.json": {
            "tokenizer_class": "LlamaTokenizer",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "add_bos_token": True,
            "add_eos_token": False,
            "added_tokens_decoder": decoder,
        },
    }


def _fallback() -> Json:
    """The same as tokenizer.json, as Llama 2 has it too."""
    vocabulary = {text: number for number, (text, _, _) in enumerate(_pieces())}
    merges = [f"{word[0]} {word[1:]}" for word in sorted(WORDS, key=len)]
    return {
        "tokenizer.json": {
            "version": "1.0",
            "added_tokens": [
                *(_added(text, number) for number, text in enumerate(("<unk>", "<s>", "</s>"))),
                _added("plain", len(vocabulary), special=False),
            ],
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
            "model": {
                "type": "BPE",
                "unk_token": "<unk>",
                "byte_fallback": True,
                "vocab": vocabulary,
                "merges": merges,
            },
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
        },
    }


def _wordpiece() -> Json:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz.,"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + list(WORDS)
    special = words[:5]
    return {
        "tokenizer.json": {
            "version": "1.0",
            "added_tokens": [_added(text, number) for number, text in enumerate(special)],
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                ],
                "pair": [],
                "special_tokens": {
                    text: {"id": text, "ids": [number], "tokens": [text]}
                    for number, text in enumerate(special)
                },
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {text: number for number, text in enumerate(words)},
            },
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{
                f"{kind}_token": f"[{kind.upper()}]"
                for kind in ("pad", "unk", "cls", "sep", "mask")
            },
        },
    }


def _unigram() -> Json:
    texts = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        SPACE,
        *"abcdefghijklmnopqrstuvwxyz",
        *WORDS,
        "<mask>",
    ]
    special = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", len(texts) - 1: "<mask>"}
    step = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always"}
    return {
        "tokenizer.json": {
            "version": "1.0",
            "added_tokens": [_added(text, number) for number, text in special.items()],
            "normalizer": {"type": "Precompiled", "precompiled_charsmap": _CHARACTER_MAP},
            "pre_tokenizer": {
                "type": "Metaspace",
                "replacement": SPACE,
                "prepend_scheme": "always",
            },
            "post_processor": None,
            "decoder": step,
            "model": {
                "type": "Unigram",
                "unk_id": 3,
                "vocab": [[text, -float(number)] for number, text in enumerate(texts)],
            },
        },
        "tokenizer_config.json": {
            "tokenizer_class": "XLMRobertaTokenizer",
            **{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
            **{"sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>"},
            "mask_token": "<mask>",
        },
    }


_TOKENIZERS = {
    "bpe": _bpe,
    "bpe_template": _bpe_template,
    "bpe_files": _bpe_files,
    "sentencepiece": _sentencepiece,
    "fallback": _fallback,
    "wordpiece": _wordpiece,
    "unigram": _unigram,
}
